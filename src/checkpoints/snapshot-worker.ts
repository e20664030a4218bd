import { setTimeout } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { NextvladError, type SerialisedError, serialiseError } from "../base/errors.js";
import { confirmLock } from "../base/lock.js";
import type { RunState, WrittenBy } from "./snapshot-state.js";
import { type ArraySource, writeSnapshot } from "./snapshot-writer.js";

/** An array that has left its device. */
export interface HeldArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly values: Float32Array<ArrayBuffer>;
}

/** A snapshot to be written by a thread of its own, which the arrays are handed over to. */
export interface SnapshotTask {
  readonly path: string;
  readonly saveDir: string;
  /** The text of the save-dir's lock: see `confirmLock`. */
  readonly lockText: string;
  readonly weights: readonly HeldArray[];
  readonly moments: readonly HeldArray[];
  readonly state: RunState;
  readonly configYaml: string;
  readonly writtenBy: WrittenBy;
  /** How long to wait between a failure and the second attempt. */
  readonly retryMs: number;
}

/** What the thread tells: a failure that it will try to make good, and the end. */
export type SnapshotReply =
  | { readonly type: "written" }
  | { readonly type: "retry"; readonly error: SerialisedError }
  | { readonly type: "failed"; readonly error: SerialisedError };

const port = parentPort;
if (port === null) throw new Error("this module is a worker thread's");
const task = workerData as SnapshotTask;
const reply = (message: SnapshotReply): void => port.postMessage(message);

try {
  for (const array of [...task.weights, ...task.moments]) refuseNotFinite(array);
  await write();
  reply({ type: "written" });
} catch (error) {
  reply({ type: "failed", error: serialiseError(error) });
}

/** Throws NOT_FINITE where an array holds anything but numbers: such a snapshot must never take a good one's place. */
function refuseNotFinite({ name, values }: HeldArray): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * 0;
  if (sum === 0) return;
  throw new NextvladError("NOT_FINITE", "the snapshot is not written, as this array holds values that are no numbers", { parameter: name });
}

/** Writes it, and once more where that fails: a mount may come back, and room be made. */
async function write(): Promise<void> {
  try {
    await attempt();
  } catch (error) {
    reply({ type: "retry", error: serialiseError(error) });
    await setTimeout(task.retryMs);
    await attempt();
  }
}

async function attempt(): Promise<void> {
  await confirmLock(task.saveDir, task.lockText);
  const { path, state, configYaml, writtenBy } = task;
  await writeSnapshot(path, { weights: task.weights.map(source), moments: task.moments.map(source), state, configYaml, writtenBy });
}

function source({ name, shape, values }: HeldArray): ArraySource {
  return { name, shape, download: () => values };
}
