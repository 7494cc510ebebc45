// A process that counts. `exuvia dev` builds and runs it; change something here while it runs, and
// it goes on with the new code and the count that it has.

import { Actor, Encoder, Fields, Message, log, start } from "exuvia-assemblyscript";
export { exuvia_abi, load, run, save } from "exuvia-assemblyscript";

/** The number of the state's form: raise it when the same fields get another meaning, here and in `state.json`. */
export const exuvia_schema: i32 = 1;

class Counter extends Actor {
  count: i64 = 0;

  /** Messages: nothing is replied. What is wrong with a parameter is logged. */
  message(m: Message): void {
    if (m.is("Add")) {
      const by = m.int("by"); // exuvia send counter '{"Add": {"by": 3}}'
      if (!m.isOk) return;
      this.count += by;
      log.info("the count is " + this.count.toString());
    } else super.message(m);
  }

  /** Requests: reply, or refuse. One that is left unanswered is refused. */
  request(m: Message): void {
    if (m.is("Get")) m.replyInt(this.count); // exuvia send counter '"Get"' --call
  }

  /** What new code gets. */
  save(state: Encoder): void {
    state.map(1).text("count").int(this.count);
  }
  load(state: Fields, schema: i32): string {
    if (schema != 1) return "the schema " + schema.toString() + " is unknown";
    this.count = state.int("count");
    return "";
  }
}

start(new Counter());
