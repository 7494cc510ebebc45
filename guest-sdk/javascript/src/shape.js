// The types of parameters: checked before a handler sees them, and told to people.

import { Refusal } from "./host.js";

const typeOf = (value) =>
  value === null || value === undefined ? "nil"
  : Array.isArray(value) ? "list"
  : value instanceof Uint8Array ? "binary"
  : typeof value === "string" ? "text"
  : typeof value === "bigint" ? "int of 64 bits"
  : typeof value === "boolean" ? "bool"
  : typeof value;

const is = {
  any: () => true,
  int: (value) => Number.isSafeInteger(value),
  bigint: (value) => typeof value === "bigint" || Number.isSafeInteger(value),
  number: (value) => typeof value === "number",
  bool: (value) => typeof value === "boolean",
  text: (value) => typeof value === "string",
  binary: (value) => value instanceof Uint8Array,
  pid: (value) => value instanceof Uint8Array && value.length === 16,
  list: (value) => Array.isArray(value),
  map: (value) => value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array),
};

function checkOne(path, type, value) {
  if (Array.isArray(type)) {
    if (!Array.isArray(value)) throw new Refusal(`\`${path}\`: expected a list, got ${typeOf(value)}`);
    return value.map((element, i) => checkOne(`${path}[${i}]`, type[0], element));
  }
  if (typeof type === "object") return check(type, value, path);
  const optional = type.endsWith("?");
  const word = optional ? type.slice(0, -1) : type;
  if (!is[word]) throw new TypeError(`\`${path}\`: there is no type "${type}"`);
  if (value === null || value === undefined) {
    if (optional) return undefined;
    if (word === "any") return value;
    throw new Refusal(`\`${path}\` is missing`);
  }
  if (!is[word](value)) throw new Refusal(`\`${path}\`: expected ${word}, got ${typeOf(value)}`);
  return word === "bigint" ? BigInt(value) : value;
}

export function check(shape, value, path) {
  if (!is.map(value)) throw new Refusal(`${path ? `\`${path}\`: ` : ""}expected a map, got ${typeOf(value)}`);
  const checked = {};
  for (const name of Object.keys(shape))
    checked[name] = checkOne(path ? `${path}.${name}` : name, shape[name], value instanceof Map ? value.get(name) : value[name]);
  return checked;
}

export function takes(shape, handler, { returns, docs } = {}) {
  const checked = function (state, parameters, context) {
    return handler.call(this, state, check(shape, parameters), context);
  };
  return Object.assign(checked, { shape, returns, docs });
}

const word = (type) =>
  Array.isArray(type) ? `[${word(type[0])}]`
  : typeof type === "object" ? "map"
  : type.endsWith("?") ? `Option<${type.slice(0, -1)}>`
  : type;

export const describeShape = (shape) => Object.entries(shape).map(([name, type]) => ({ name, type: word(type) }));

const IN_MESSAGEPACK = {
  any: "any", int: "int", bigint: "int", number: "float", bool: "bool", text: "text", binary: "bytes", pid: "pid",
  list: "List<any>", map: "Map<any, any>",
};

/** A type in the words of the section `exuvia.state`, which are the same for all languages. */
export function savedAs(path, type) {
  if (Array.isArray(type)) return `List<${savedAs(`${path}[]`, type[0])}>`;
  if (type !== null && typeof type === "object")
    return `{${Object.entries(type).map(([name, inner]) => `${name}: ${savedAs(`${path}.${name}`, inner)}`).join(", ")}}`;
  const optional = typeof type === "string" && type.endsWith("?");
  const known = IN_MESSAGEPACK[optional ? type.slice(0, -1) : type];
  if (!known) throw new TypeError(`\`${path}\`: there is no type "${type}"`);
  return optional ? `Option<${known}>` : known;
}

/** The names that a handler takes apart in its second parameter, read from its text. */
export function parametersOf(handler) {
  const text = Function.prototype.toString.call(handler);
  const found = /^[^(]*\([^,()]*,\s*\{([^{}]*)\}/.exec(text);
  if (!found) return [];
  return found[1]
    .split(",")
    .map((part) => /^\s*([A-Za-z_$][\w$]*)\s*(?::[^=]*)?(=)?/.exec(part))
    .filter(Boolean)
    .map(([, name, byDefault]) => ({ name, type: byDefault ? "Option<any>" : "any" }));
}
