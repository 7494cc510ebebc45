// Values for people, in the log.

import { Refusal } from "./host.js";
import { describe } from "./stack.js";

const MOST = 100;

export function inspect(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string":
      return depth ? JSON.stringify(value) : value;
    case "bigint":
      return `${value}n`;
    case "function":
      return `[function ${value.name || "without a name"}]`;
    case "object":
      break;
    default:
      return String(value);
  }
  if (value === null) return "null";
  if (value instanceof Error) return describe(value);
  if (seen.includes(value)) return "[circular]";
  if (depth > 4) return "[...]";
  const inner = (element) => inspect(element, depth + 1, [...seen, value]);
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${value.byteLength}) ${[...new Uint8Array(value.buffer, value.byteOffset, Math.min(value.byteLength, 16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}${value.byteLength > 16 ? "..." : ""}`;
  const cut = (list) => (list.length > MOST ? [...list.slice(0, MOST), `... ${list.length - MOST} more`] : list);
  if (Array.isArray(value)) return `[${cut(value.slice(0, MOST + 1).map(inner)).join(", ")}]`;
  if (value instanceof Map) return `Map {${cut([...value].map(([key, element]) => `${inner(key)} => ${inner(element)}`)).join(", ")}}`;
  if (value instanceof Set) return `Set {${cut([...value].map(inner)).join(", ")}}`;
  const name = value.constructor?.name;
  return `${name && name !== "Object" ? `${name} ` : ""}{${cut(Object.entries(value).map(([key, element]) => `${key}: ${inner(element)}`)).join(", ")}}`;
}

/** Why a start failed: a refusal needs no stack. */
export const failText = (error) => (error instanceof Refusal ? error.message : describe(error));
