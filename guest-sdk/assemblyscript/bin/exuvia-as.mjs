#!/usr/bin/env node
// exuvia-as build SCRIPT -o MODULE: asc with the flags that an actor needs.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { keepFunctionsOf } from "./keep-functions.mjs";
import { withLines } from "./lines.mjs";
import { withSection, withoutDeadStack } from "./wasm.mjs";

const HELP = `Usage: exuvia-as build SCRIPT --out MODULE [--use NAME=VALUE]... [--protocol FILE] [--state FILE] [--fast] [--inline] [-- FLAGS OF ASC]

  -o, --out FILE        the module
  -u, --use NAME=VALUE  an integer as a constant, as asc has it
      --protocol FILE   lines of JSON for \`exuvia describe\`, as section 2 of the ABI has them
      --state FILE      JSON for \`exuvia check OLD NEW\`: the type of the state, as section 2 has it
      --fast            without optimization, for development
      --inline          your own functions are inlined too: backtraces do not name those`;
const STACK_BYTES = 32768;

const sdk = fileURLToPath(new URL("../", import.meta.url));

/** asc of the project, from the folder where this runs upwards. */
async function compiler() {
  let folder = process.cwd();
  for (let below = ""; folder !== below; folder = dirname((below = folder))) {
    const place = resolve(folder, "node_modules/assemblyscript/dist/asc.js");
    if (existsSync(place)) return await import(pathToFileURL(place));
  }
  console.error(`assemblyscript is missing in ${process.cwd()}: run \`npm install\` there`);
  process.exit(69);
}

const own = process.argv.indexOf("--");
const { values, positionals } = parseArgs({
  args: process.argv.slice(2, own < 0 ? undefined : own),
  allowPositionals: true,
  options: {
    out: { type: "string", short: "o" },
    use: { type: "string", short: "u", multiple: true, default: [] },
    protocol: { type: "string" },
    state: { type: "string" },
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

/** What `--state` names, if it is JSON. */
function stateOf(path) {
  try {
    const text = readFileSync(path, "utf8");
    JSON.parse(text);
    return Buffer.from(text);
  } catch (error) {
    console.error(`${path}: ${error.message}`);
    process.exit(1);
  }
}
const state = values.state && stateOf(values.state);

keepFunctionsOf(script);
const { main } = await compiler();
// The SDK is one package under one name, wherever it lies: asc takes its files from here, for the
// imports of the script as for the runtime.
const LIBRARY = "~lib/exuvia-assemblyscript";
const OF_SDK = /(?:^|\/)exuvia-assemblyscript(?:\/(?:assembly\/)?(.*))?\.ts$/;
function readFile(name, base) {
  const found = OF_SDK.exec(name.replaceAll("\\", "/"));
  const file = found ? resolve(sdk, "assembly", `${found[1] ?? "index"}.ts`) : resolve(base, name);
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}
/** What asc writes: the module and its source map. */
const written = {};
const { error, stderr } = await main([
  script,
  "--outFile", "actor.wasm",
  "--runtime", `${LIBRARY}/runtime`,
  "--stackSize", String(STACK_BYTES),
  "--use", `abort=${LIBRARY}/log/abort`,
  "--use", `seed=${LIBRARY}/process/seed`,
  ...values.use.flatMap((use) => ["--use", use]),
  "--debug",
  "--sourceMap",
  "--enable", "bulk-memory",
  ...(values.inline ? [] : ["--transform", fileURLToPath(new URL("keep-functions.mjs", import.meta.url))]),
  ...(values.fast ? [] : ["-O3", "--converge"]),
  ...(own < 0 ? [] : process.argv.slice(own + 1)),
], { readFile, writeFile: (name, contents) => void (written[name] = contents) });
if (error) {
  console.error(stderr.toString().trimEnd() || error.message);
  process.exit(1);
}
const original = Buffer.from(written["actor.wasm"]);
let module = withLines(withoutDeadStack(original), original, JSON.parse(written["actor.wasm.map"]));
if (values.protocol) module = withSection(module, "exuvia.protocol", readFileSync(values.protocol));
if (state) module = withSection(module, "exuvia.state", state);
// Whole or not at all: a node that watches the file sees no half.
const temporary = `${values.out}.${process.pid}`;
mkdirSync(dirname(resolve(values.out)), { recursive: true });
writeFileSync(temporary, module);
renameSync(temporary, values.out);
