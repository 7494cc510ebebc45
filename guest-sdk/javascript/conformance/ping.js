// For the benchmark: `Ping` and `Pong` between two processes.

import { actor, send, takes } from "exuvia-actor";

actor({
  init: () => ({ rounds: 0 }),
  messages: {
    Start: takes({ to: "pid", rounds: "int" }, (state, { to, rounds }) => send(to, { Ping: { left: rounds } })),
    Ping(state, { left }, { from }) {
      state.rounds++;
      send(from, { Pong: { left } });
    },
    Pong(state, { left }, { from }) {
      state.rounds++;
      if (left > 1) send(from, { Ping: { left: left - 1 } });
    },
  },
  requests: { Rounds: (state) => state.rounds },
});
