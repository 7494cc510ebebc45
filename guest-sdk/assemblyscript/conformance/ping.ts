// For the benchmark: `Ping` and `Pong` between two processes.

import { Actor, Encoder, Message, send, start } from "exuvia-assemblyscript";
export { exuvia_abi, load, run, save } from "exuvia-assemblyscript";

class Ping extends Actor {
  rounds: i64 = 0;

  message(m: Message): void {
    if (m.is("Ping")) {
      const left = m.int("left");
      if (!m.isOk) return;
      this.rounds++;
      send(m.from, Encoder.call("Pong", 1).text("left").int(left));
    } else if (m.is("Pong")) {
      const left = m.int("left");
      if (!m.isOk) return;
      this.rounds++;
      if (left > 1) send(m.from, Encoder.call("Ping", 1).text("left").int(left - 1));
    } else if (m.is("Start")) {
      const to = m.pid("to");
      const rounds = m.int("rounds");
      if (m.isOk) send(to, Encoder.call("Ping", 1).text("left").int(rounds));
    } else super.message(m);
  }
  request(m: Message): void {
    if (m.is("Rounds")) m.replyInt(this.rounds);
  }
}

start(new Ping());
