import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { createInstrumenter } from "istanbul-lib-instrument";

/** What is built, and a copy of it beside it whose parsers count what is run in them. */
const BUILT = resolve("dist");
const INSTRUMENTED = join(BUILT, "instrumented");

/** Makes the copy afresh; returns its child.js. What is compiled stays an ES module, as it is. */
export function instrument(): string {
  rmSync(INSTRUMENTED, { recursive: true, force: true });
  cpSync(join(BUILT, "scripts", "fuzz"), join(INSTRUMENTED, "scripts", "fuzz"), { recursive: true });
  const instrumenter = createInstrumenter({ esModules: true, produceSourceMap: false });
  for (const name of readdirSync(join(BUILT, "src"), { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".js")) continue;
    const [from, to] = [join(BUILT, "src", name), join(INSTRUMENTED, "src", name)];
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, instrumenter.instrumentSync(readFileSync(from, "utf8"), from));
  }
  return join(INSTRUMENTED, "scripts", "fuzz", "child.js");
}
