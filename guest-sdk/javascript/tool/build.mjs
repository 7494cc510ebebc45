// From a script in JavaScript or TypeScript to a module: bundled, put into the engine, started once.

import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { createRequire } from "node:module";
import { spawnSync } from "node:child_process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { inject, place } from "./wasm.mjs";
import { instance, start } from "./start.mjs";

const sdk = fileURLToPath(new URL("../", import.meta.url));
const ENGINE = resolve(sdk, "engine/engine.wasm");
const IS_SOURCE = /\.(c|h|sh|txt)$/;

export class BuildError extends Error {
  constructor(message, status = 1) {
    super(message);
    this.status = status;
  }
}

const LOCK = `${ENGINE}.lock`;
const LOOK_AGAIN_MS = 200;

/** Whether the process that has the lock still runs: one that was interrupted leaves it behind. */
function isAlive() {
  try {
    process.kill(Number(readFileSync(LOCK, "utf8")) || process.pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Runs it while no other process does: several builds may find at once that there is no engine. */
function alone(run) {
  for (;;) {
    try {
      writeFileSync(LOCK, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    if (!isAlive()) rmSync(LOCK, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_AGAIN_MS);
  }
  try {
    return run();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

function changedSources() {
  const built = statSync(ENGINE, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const folder = dirname(ENGINE);
  return readdirSync(folder).filter((name) => IS_SOURCE.test(name) && statSync(resolve(folder, name)).mtimeMs > built);
}

/** The engine's bytes; it is built from its sources the first time, and when they have changed. */
export function engine(out = console.error) {
  if (changedSources().length)
    alone(() => {
      if (!changedSources().length) return; // another process has built it meanwhile
      out(existsSync(ENGINE) ? "the engine's sources have changed: building it anew" : "building the engine, once: half a minute");
      const temporary = `${ENGINE}.${process.pid}`;
      const { status, error } = spawnSync(resolve(sdk, "engine/build.sh"), [temporary], { stdio: ["ignore", "inherit", "inherit"] });
      if (error) throw new BuildError(`could not run engine/build.sh: ${error.message}`);
      if (status) throw new BuildError(`engine/build.sh failed with status ${status}`, status);
      renameSync(temporary, ENGINE);
    });
  return readFileSync(ENGINE);
}

const oneLine = (problem) => {
  const { file, line, column } = problem.location ?? {};
  return `${file ? `${file}:${line}:${column + 1}: ` : ""}${problem.text}`;
};

/** Bundles a script with the SDK and what it imports from npm; `define` are constants, as esbuild has them. */
export async function bundle(input, { define = {}, minify = false } = {}) {
  let esbuild;
  try {
    esbuild = await import(pathToFileURL(createRequire(resolve("package.json")).resolve("esbuild")));
  } catch {
    throw new BuildError(`esbuild is missing in ${process.cwd()}: run \`npm install\` there`, 69);
  }
  let result;
  try {
    result = await esbuild.build({
      entryPoints: [input],
      bundle: true,
      write: false,
      outfile: "script.js",
      format: "iife",
      platform: "neutral",
      target: "es2023",
      mainFields: ["module", "main"],
      conditions: ["exuvia", "import", "default"],
      sourcemap: "external",
      sourcesContent: false,
      keepNames: false,
      minify,
      define,
      logLevel: "silent",
      alias: { "exuvia-actor": resolve(sdk, "src/index.js") },
    });
  } catch (error) {
    if (!error.errors?.length) throw error;
    throw new BuildError(error.errors.map(oneLine).join("\n"));
  }
  const file = (end) => result.outputFiles.find((output) => output.path.endsWith(end)).text;
  const { mappings, sources } = JSON.parse(file(".js.map"));
  const shown = sources.map((source) => {
    const path = resolve(process.cwd(), source);
    const inSdk = relative(resolve(sdk, "src"), path);
    return inSdk.startsWith("..") ? relative(process.cwd(), path) : `exuvia-actor/src/${inSdk}`;
  });
  const map = JSON.stringify({ mappings, sources: shown });
  return `globalThis.exuviaSourceMap = ${map};${file(".js")}`.replace(/\n?\/\/# sourceMappingURL.*\s*$/, "\n");
}

/** Builds a module; returns its bytes and the texts of its custom sections, by name. */
export async function build(input, options = {}) {
  const bytes = engine();
  const script = await bundle(input, options);
  const started = instance(bytes);
  const placed = place(started.exports, script);
  const sections = start(started, placed, (text) => {
    throw new BuildError(text);
  });
  const encoded = Object.entries(sections).map(([name, text]) => [name, new TextEncoder().encode(text)]);
  return { module: inject(bytes, placed, encoded), sections };
}

/** Writes a file whole or not at all, so that a node that watches it sees no half. */
export function write(output, bytes) {
  mkdirSync(dirname(resolve(output)), { recursive: true });
  const temporary = `${output}.${process.pid}`;
  writeFileSync(temporary, bytes);
  renameSync(temporary, output);
}
