// A counter as a component in JavaScript, by componentize-js. Payloads are JSON here.
import * as host from "exuvia:actor/host@0.1.0";

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
let count = 0;

export const schema = () => 1;

export function init(args) {
  if (args.length) count = JSON.parse(text(args));
}

export function handleMessage(message) {
  if (message.kind === "message") count += JSON.parse(text(message.payload));
}

// Answers the count; a text is a name, whose process is asked.
export function handleRequest(message) {
  const of = message.payload.length ? JSON.parse(text(message.payload)) : null;
  if (typeof of !== "string") return bytes(count);
  const pid = host.whereis(of);
  // What is thrown is the error of the `result`.
  if (!pid) throw `there is no \`${of}\``;
  try {
    return host.call(pid, 0, new Uint8Array(), 10_000);
  } catch (error) {
    // The case of `call-error`.
    const { tag, val } = error.payload;
    throw tag === "refused" ? `\`${of}\` says no: ${val}` : `\`${of}\`: ${val}`;
  }
}

export const save = () => bytes(count);

export function load(schema, state) {
  if (schema !== 1) throw `the schema ${schema} is unknown`;
  count = JSON.parse(text(state));
}
