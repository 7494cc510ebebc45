// Stacks in the places of the author's own files. The build step leaves a source map behind the
// script, which is read only when something has failed.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
let lines;

/** For each line of the script, the places that its columns come from: column, source, line, column. */
function decode(mappings) {
  let source = 0;
  let line = 0;
  let column = 0;
  return mappings.split(";").map((text) => {
    let generated = 0;
    const segments = [];
    for (const segment of text ? text.split(",") : []) {
      const numbers = [];
      let value = 0;
      let shift = 0;
      for (const digit of segment) {
        const bits = DIGITS.indexOf(digit);
        value |= (bits & 31) << shift;
        shift += 5;
        if (bits & 32) continue;
        numbers.push(value & 1 ? -(value >> 1) : value >> 1);
        value = shift = 0;
      }
      generated += numbers[0];
      if (numbers.length < 4) continue;
      source += numbers[1];
      line += numbers[2];
      column += numbers[3];
      segments.push([generated, source, line, column]);
    }
    return segments;
  });
}

function place(line, column) {
  const map = globalThis.exuviaSourceMap;
  lines ??= decode(map.mappings);
  let best;
  for (const segment of lines[line - 1] ?? []) if (segment[0] <= column - 1) best = segment;
  return best && `${map.sources[best[1]]}:${best[2] + 1}:${best[3] + 1}`;
}

export function mapStack(stack) {
  if (!globalThis.exuviaSourceMap) return stack;
  return stack.replace(/script:(\d+):(\d+)/g, (whole, line, column) => place(Number(line), Number(column)) ?? whole);
}

/** The lines that are the author's: those of the SDK are left out, as long as others are there. */
function authors(stack) {
  const lines = stack.trimEnd().split("\n");
  const kept = lines.filter((line) => !line.includes("(exuvia-actor/src/") && !line.endsWith("at call (native)"));
  return (kept.length ? kept : lines).join("\n");
}

/** An error for people: its text, its stack, and what caused it. */
export function describe(error) {
  if (!(error instanceof Error)) return `exception: ${String(error)}`;
  let text = `${error}`;
  if (typeof error.stack === "string") text += `\n${authors(mapStack(error.stack))}`;
  if (error.cause !== undefined) text += `\ncaused by ${describe(error.cause)}`;
  return text;
}
