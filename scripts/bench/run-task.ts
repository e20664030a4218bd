import { join } from "node:path";
import { ROOT } from "./checkout.js";
import { runChild } from "./child.js";
import { isaEnvironment } from "./isa.js";
import type { Measurement, Task } from "./measure.js";

/** Measures a task in a process of its own, in this checkout unless the root of another one is given, which must be built. */
export async function runTask(task: Task, signal: AbortSignal, root = ROOT): Promise<Measurement> {
  const environment = "isa" in task ? isaEnvironment(task.isa) : {};
  const args = [join(root, "dist/scripts/bench/measure.js"), JSON.stringify(task)];
  return JSON.parse(await runChild(process.execPath, args, signal, environment)) as Measurement;
}
