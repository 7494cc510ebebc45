// Writes engine/constants.h, src/constants.js and src/constants.d.ts from ../abi.json and the tags of ../io.md.
// `node generate.mjs --check` writes nothing, and fails if one of them is stale.
import { readFileSync, writeFileSync } from "node:fs";

const here = new URL(".", import.meta.url);
const abi = JSON.parse(readFileSync(new URL("../abi.json", here), "utf8"));
const io = readFileSync(new URL("../io.md", here), "utf8");

const tags = [...io.matchAll(/^\| (0x[0-9a-f]{8}) \| ([A-Z_]+) \|/gm)].map(([, value, name]) => ({ name, value: Number(value) }));
if (!tags.some((tag) => tag.name === "REFUSED")) throw new Error("io.md has no table of tags any more");
// The Rust SDK's tag of a timer that is awaited, which no other code sees.
tags.push({ name: "AWAITED", value: 0xfffffffe });

const named = (rows, key = "value") => rows.map((row) => ({ name: row.name, value: row[key], docs: row.meaning ?? row.takes }));
const groups = {
  KIND: named(abi.kinds),
  CODE: named(abi.codes),
  REASON: named(abi.reasons, "code"),
  RUN: named(abi.run),
  RECEIVE: named(abi.receive),
  SPAWN: named(abi.spawn),
  DEMONITOR: named(abi.demonitor),
  PRIORITY: named(abi.priority),
  LOG: named(abi.log),
  CLOCK: named(abi.clock),
  INFO: named(abi.info),
  ACCESS: named(abi.access),
  TAG: tags,
};
const offset = (start) => abi.options.find((option) => option.field.startsWith(start)).offset;
const options = {
  SIZE: 72,
  FLAGS: offset("flags"),
  MEMORY: offset("memory"),
  MAILBOX_BYTES: offset("mailbox, bytes"),
  MAILBOX_MESSAGES: offset("mailbox, messages"),
  MESSAGE_BYTES: offset("message, bytes"),
  CHILDREN: offset("children"),
  START_TIMEOUT: offset("start timeout"),
  TABLES: offset("tables"),
  PRIORITY: offset("the highest priority"),
  FILES: offset("open files"),
  GRANTS: offset("pointer to the child's grants"),
  DESCENDANTS: offset("descendants"),
};

const header = [
  "/* Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit. */",
  "#ifndef EXUVIA_CONSTANTS_H",
  "#define EXUVIA_CONSTANTS_H",
  `#define EXUVIA_ABI ${abi.abi}`,
  ...Object.entries(groups).flatMap(([group, rows]) =>
    rows.map(({ name, value }) => `#define ${group}_${name} ${value < 0 ? `(${value})` : group === "TAG" ? `0x${value.toString(16)}u` : value}`),
  ),
  ...Object.entries(options).map(([name, value]) => `#define OPTIONS_${name} ${value}`),
  "#endif",
  "",
].join("\n");

const plain = (text) => text.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/\*\//g, "");
const script = [
  "// Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit.",
  "",
  ...Object.entries(groups).map(([group, rows]) =>
    [
      `export const ${group} = Object.freeze({`,
      ...rows.flatMap(({ name, value, docs }) => [
        ...(docs ? [`  /** ${plain(docs)} */`] : []),
        `  ${name}: ${group === "TAG" ? `0x${value.toString(16)}` : value},`,
      ]),
      "});",
      "",
    ].join("\n"),
  ),
  `export const OPTIONS = Object.freeze(${JSON.stringify(options)});`,
  "",
].join("\n");

const types = script
  .replace(/export const (\w+) = Object\.freeze\(\{\n/g, "export const $1: {\n")
  .replace(/^\}\);$/gm, "};")
  .replace(/^ {2}(\w+): (.*),$/gm, "  readonly $1: $2;")
  .replace(/^export const OPTIONS.*$/m, "export const OPTIONS: { readonly [field: string]: number };");

let stale = false;
for (const [place, text] of [["engine/constants.h", header], ["src/constants.js", script], ["src/constants.d.ts", types]]) {
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
