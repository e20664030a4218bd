import assert from "node:assert/strict";
import { test } from "node:test";
import { compiled, runProgram } from "../helpers/nextvlad.js";

/** Runs a module that imports runtime.js as `runtime`, in a process of its own. */
const runModule = (body: string) =>
  runProgram(process.execPath, [
    "--input-type=module",
    "--eval",
    `import { readFileSync } from "node:fs";
     const runtime = await import(${JSON.stringify(compiled("runtime/runtime.js"))});
     const isMapped = () => readFileSync("/proc/self/maps", "utf8").includes("libtensorflow_cc.so.2");
     ${body}`,
  ]);

test("preloadTensorflow loads the library in the background, without muting standard error or the program's own output", async () => {
  const { exitCode, stdout, stderr } = await runModule(`
    runtime.preloadTensorflow();
    process.stderr.write("visible\\n");
    const since = performance.now();
    while (!isMapped() && performance.now() < since + 60_000);
    process.stdout.write(String(isMapped()));
    await new Promise((resolve) => setTimeout(resolve, 500));
    process.stderr.write("still visible\\n");
    process.stdout.write(" " + (await runtime.loadTensorflow(false)).kind);
    runtime.preloadTensorflow();`);
  assert.deepEqual([exitCode, stdout, stderr], [0, "true cpu", "visible\nstill visible\n"]);
});

test("a process that ends while the library loads ends normally, whenever that is", async () => {
  for (const delayMs of [0, 50, 100, 150, 200, 250]) {
    const body = `runtime.preloadTensorflow(); while (!isMapped()); setTimeout(() => process.exit(3), ${delayMs});`;
    const { exitCode, signal, stderr } = await runModule(body);
    assert.deepEqual([exitCode, signal, stderr], [3, null, ""], `after ${delayMs} ms`);
  }
});

test("what prevents loading is reported by loadTensorflow, not by preloadTensorflow", async () => {
  const { exitCode, stdout } = await runModule(`
    process.env.NEXTVLAD_ISA = "none";
    runtime.preloadTensorflow();
    await runtime.loadTensorflow(false).catch(({ code }) => process.stdout.write(code + " " + isMapped()));`);
  assert.deepEqual([exitCode, stdout], [0, "BAD_USAGE false"]);
});
