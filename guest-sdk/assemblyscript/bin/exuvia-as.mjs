#!/usr/bin/env node
// exuvia-as build SCRIPT -o MODULE: asc with the flags that an actor needs.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { keepFunctionsOf } from "./keep-functions.mjs";

const HELP = `Usage: exuvia-as build SCRIPT --out MODULE [--use NAME=VALUE]... [--protocol FILE] [--fast] [--inline] [-- FLAGS OF ASC]

  -o, --out FILE        the module
  -u, --use NAME=VALUE  an integer as a constant, as asc has it
      --protocol FILE   lines of JSON for \`exuvia describe\`, as section 2 of the ABI has them
      --fast            without optimization, for development
      --inline          your own functions are inlined too: backtraces do not name those`;
const STACK_BYTES = 32768;

const sdk = fileURLToPath(new URL("../", import.meta.url));

async function compiler() {
  try {
    return await import("assemblyscript/asc").catch(() =>
      import(pathToFileURL(createRequire(resolve("package.json")).resolve("assemblyscript/asc")).href));
  } catch {
    console.error("assemblyscript is missing: run `npm install`");
    process.exit(69);
  }
}

const unsigned = (value) => {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value);
  return Buffer.from(bytes);
};
const section = (name, body) => {
  const text = Buffer.from(name);
  const all = Buffer.concat([unsigned(text.length), text, body]);
  return Buffer.concat([Buffer.of(0), unsigned(all.length), all]);
};

const own = process.argv.indexOf("--");
const { values, positionals } = parseArgs({
  args: process.argv.slice(2, own < 0 ? undefined : own),
  allowPositionals: true,
  options: {
    out: { type: "string", short: "o" },
    use: { type: "string", short: "u", multiple: true, default: [] },
    protocol: { type: "string" },
    inline: { type: "boolean", default: false },
    fast: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const [command, script] = positionals;
if (values.help || command !== "build" || !script || !values.out) {
  console.error(HELP);
  process.exit(values.help ? 0 : 2);
}

keepFunctionsOf(script);
const { main } = await compiler();
// asc writes paths with its base in front: all are relative to where it was called.
const base = process.cwd();
const inSdk = (name) => relative(base, resolve(sdk, "assembly", name)).replaceAll("\\", "/");
const temporary = `${values.out}.${process.pid}`;
mkdirSync(dirname(resolve(values.out)), { recursive: true });
const { error, stderr } = await main([
  script,
  "--outFile", temporary,
  "--runtime", inSdk("runtime"),
  "--stackSize", String(STACK_BYTES),
  "--use", `abort=${inSdk("log")}/abort`,
  "--use", `seed=${inSdk("process")}/seed`,
  ...values.use.flatMap((use) => ["--use", use]),
  "--debug",
  "--enable", "bulk-memory",
  ...(values.inline ? [] : ["--transform", fileURLToPath(new URL("keep-functions.mjs", import.meta.url))]),
  ...(values.fast ? [] : ["-O3", "--converge"]),
  ...(own < 0 ? [] : process.argv.slice(own + 1)),
]);
if (error) {
  console.error(stderr.toString().trimEnd() || error.message);
  process.exit(1);
}
let module = readFileSync(temporary);
if (values.protocol) module = Buffer.concat([module, section("exuvia.protocol", readFileSync(values.protocol))]);
writeFileSync(temporary, module);
renameSync(temporary, values.out);
