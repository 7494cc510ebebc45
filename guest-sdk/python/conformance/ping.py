"""For the benchmark: `Ping` and `Pong` between two processes."""

from exuvia import Pid, actor, message, request, send, sender


@actor
class Ping:
    handled: int = 0

    @message
    def start(self, to: Pid, rounds: int) -> None:
        send(to, "Ping", left=rounds)

    @message
    def ping(self, left: int) -> None:
        self.handled += 1
        send(sender(), "Pong", left=left)

    @message
    def pong(self, left: int) -> None:
        self.handled += 1
        if left > 1:
            send(sender(), "Ping", left=left - 1)

    @request
    def rounds(self) -> int:
        return self.handled
