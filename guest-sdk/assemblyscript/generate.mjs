// Writes assembly/constants.ts and assembly/host.ts from ../abi.json and the tags of ../io.md.
// `node generate.mjs --check` writes nothing, and fails if one of them is stale.
import { readFileSync, writeFileSync } from "node:fs";

const here = new URL(".", import.meta.url);
const abi = JSON.parse(readFileSync(new URL("../abi.json", here), "utf8"));
const io = readFileSync(new URL("../io.md", here), "utf8");
const first = "// Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit.\n";

const tags = [...io.matchAll(/^\| (0x[0-9a-f]{8}) \| ([A-Z_]+) \|/gm)].map(([, value, name]) => ({ name, value }));
if (!tags.some((tag) => tag.name === "REFUSED")) throw new Error("io.md has no table of tags any more");

const plain = (text) => text.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/\*\//g, "");
const enumeration = (name, docs, rows, key = "value") =>
  [`/** ${docs} */`, `export enum ${name} {`, ...rows.map((row) => `  /** ${plain(row.meaning ?? row.takes ?? row.payload)} */\n  ${row.name} = ${row[key]},`), "}", ""].join("\n");

const constants = [
  first,
  `export const ABI: i32 = ${abi.abi};\n`,
  enumeration("Kind", "Kinds of messages; the text is what the payload is.", abi.kinds),
  enumeration("Code", "What host calls return.", abi.codes),
  enumeration("ReasonCode", "Why processes end; from 256 on the processes' own.", abi.reasons, "code"),
  enumeration("Run", "What `run` returns.", abi.run),
  enumeration("Receive", "Which message `receive` takes.", abi.receive),
  enumeration("Spawn", "Flags of `spawn`.", abi.spawn),
  enumeration("Demonitor", "Flags of `demonitor`.", abi.demonitor),
  enumeration("Priority", "Priorities.", abi.priority),
  enumeration("Level", "Levels of the log.", abi.log),
  enumeration("Clock", "Clocks.", abi.clock),
  enumeration("Info", "What `info` returns.", abi.info),
  enumeration("Access", "Who may use a table besides its owner.", abi.access),
  ...tags.map(({ name, value }) => `/** A tag of io.md. */\nexport const TAG_${name}: u32 = ${value};`),
  "",
].join("\n");

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
// What comes later than 1.0 is asked for as optional: an older host answers NOT_SUPPORTED.
const later = new Set(["discard"]);
const host = [
  first,
  ...abi.host_calls.map(
    (call) =>
      `/** ${call.docs} */\n// @ts-ignore: decorator\n@external("${later.has(call.name) ? abi.optional_module : abi.module}", "${call.name}")\n` +
      `export declare function host_${call.name}(${call.params.map(({ name, type }) => `${camel(name)}: ${type}`).join(", ")}): ${call.result ?? "void"};\n`,
  ),
].join("\n");

let stale = false;
for (const [place, text] of [["assembly/constants.ts", constants], ["assembly/host.ts", host]]) {
  const file = new URL(place, here);
  let old = "";
  try {
    old = readFileSync(file, "utf8");
  } catch {}
  if (old === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${place} is stale: run \`node generate.mjs\``);
    stale = true;
  } else writeFileSync(file, text);
}
process.exit(stale ? 1 : 0);
