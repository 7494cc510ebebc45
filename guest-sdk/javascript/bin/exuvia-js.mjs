#!/usr/bin/env node
// exuvia-js build SCRIPT -o MODULE: a script in JavaScript or TypeScript becomes a module.

import { parseArgs } from "node:util";
import { BuildError, build, engine, write } from "../tool/build.mjs";

const HELP = `Usage: exuvia-js build SCRIPT --out MODULE [--define NAME=VALUE]... [--minify]
       exuvia-js engine

build   bundles a script (.js or .ts) with what it imports, and writes the module
engine  builds the engine from its sources, which build does by itself the first time

  -o, --out FILE           the module
  -d, --define NAME=VALUE  replaces a name in the script by a value in JSON
      --minify             a smaller script; names in stacks are then short`;

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: "string", short: "o" },
      define: { type: "string", short: "d", multiple: true, default: [] },
      minify: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const [command, input] = positionals;
  if (values.help) return console.log(HELP);
  if (command === "engine") return void engine();
  if (command !== "build" || !input || !values.out) throw new BuildError(HELP, 2);
  const define = Object.fromEntries(
    values.define.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw new BuildError(`--define ${text}: write NAME=VALUE`, 2);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
  const { module } = await build(input, { define, minify: values.minify });
  write(values.out, module);
}

main().catch((error) => {
  console.error(error instanceof BuildError || error.code?.startsWith("ERR_PARSE_ARGS") ? error.message : error);
  process.exit(error.status ?? 1);
});
