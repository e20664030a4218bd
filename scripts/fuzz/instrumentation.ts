import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { createInstrumenter } from "istanbul-lib-instrument";

/** The build, and a copy of it whose source files are instrumented to count hits. */
const BUILT = resolve("dist");
const INSTRUMENTED = join(BUILT, "instrumented");

/** Recreates the instrumented copy and returns the path of its child.js. The modules remain ES modules. */
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
