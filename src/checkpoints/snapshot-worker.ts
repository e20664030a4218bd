import { setTimeout } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { type SerializedError, serializeError } from "../base/errors.js";
import { confirmLock } from "../base/lock.js";
import type { RunState, WrittenBy } from "./snapshot-state.js";
import { type ArraySource, writeSnapshot } from "./snapshot-writer.js";
import { assertFinite } from "./weight-source.js";

/** A copy of an array in host memory. */
export interface CopiedArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly values: Float32Array<ArrayBuffer>;
}

/** A snapshot to be written by the worker thread, which takes ownership of the arrays. */
export interface SnapshotTask {
  readonly path: string;
  readonly saveDir: string;
  /** The text of the save-dir's lock: see `confirmLock`. */
  readonly lockText: string;
  readonly weights: readonly CopiedArray[];
  readonly moments: readonly CopiedArray[];
  readonly ema: readonly CopiedArray[];
  readonly state: RunState;
  readonly configYaml: string;
  readonly writtenBy: WrittenBy;
  /** Delay between a failure and the second attempt. */
  readonly retryMs: number;
}

/** Messages from the worker: success, a failure that is retried, or the final failure. */
export type SnapshotReply =
  | { readonly type: "written" }
  | { readonly type: "retry"; readonly error: SerializedError }
  | { readonly type: "failed"; readonly error: SerializedError };

const port = parentPort;
if (port === null) throw new Error("must run in a worker thread");
const task = workerData as SnapshotTask;
const reply = (message: SnapshotReply): void => port.postMessage(message);

try {
  // A snapshot with NaN or Inf must never replace a finite one.
  for (const { name, values } of [...task.weights, ...task.moments, ...task.ema]) {
    assertFinite(values, "snapshot not written: an array contains NaN or Inf", { parameter: name });
  }
  await write();
  reply({ type: "written" });
} catch (error) {
  reply({ type: "failed", error: serializeError(error) });
}

/** Writes the snapshot, and retries once after a failure: a mount may recover, or disk space may be freed. */
async function write(): Promise<void> {
  try {
    await attempt();
  } catch (error) {
    reply({ type: "retry", error: serializeError(error) });
    await setTimeout(task.retryMs);
    await attempt();
  }
}

async function attempt(): Promise<void> {
  await confirmLock(task.saveDir, task.lockText);
  const { path, state, configYaml, writtenBy } = task;
  const [weights, moments, ema] = [task.weights.map(source), task.moments.map(source), task.ema.map(source)];
  await writeSnapshot(path, { weights, moments, ema, state, configYaml, writtenBy });
}

function source({ name, shape, values }: CopiedArray): ArraySource {
  return { name, shape, download: () => values };
}
