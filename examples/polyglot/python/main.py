"""A station in Python: see ../README.md."""

from exuvia import actor, message, request, send, whereis

VERSION = 1


@actor(schema=1)
class Station:
    """The state, which every station saves in the same form."""

    next: str
    passed: int = 0
    arrived: int = 0
    travelled: int = 0
    halted: bool = False

    @message("Pass")
    def on_pass(self, hops: int) -> None:
        """A token comes by: it is sent on, or has arrived."""
        self.passed += 1
        to = None if self.halted else whereis(self.next)
        if to is not None:
            send(to, "Pass", hops=hops + 1)
        else:
            self.arrived += 1
            self.travelled += hops + 1

    @request
    def halt(self) -> None:
        self.halted = True

    @request
    def count(self) -> dict[str, object]:
        return {"language": "Python", "version": VERSION, "passed": self.passed, "arrived": self.arrived, "travelled": self.travelled}
