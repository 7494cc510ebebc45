// A transform of asc: the author's own functions are not inlined into one another, so that a
// backtrace names them all. The SDK's and the library's are, as ever.

import { dirname } from "node:path";

/** The folder of the script, with a slash: names of functions begin with their file's path. */
let own = "";
export const keepFunctionsOf = (script) => {
  const folder = dirname(script).replaceAll("\\", "/").replace(/^\.\//, "");
  own = folder === "." ? "" : `${folder}/`;
};

export default class KeepFunctions {
  afterCompile(module) {
    if (!own) return;
    // asc gives its own copy of the optimizer to a transform.
    const { binaryen } = this;
    binaryen.setPassArgument("no-inline", `${own}*`);
    module.runPasses(["no-inline"]);
    binaryen.clearPassArguments();
  }
}
