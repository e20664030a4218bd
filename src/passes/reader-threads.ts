import { requireProcessLimits } from "../base/resource-limits.js";
import { chooseThreads, countReaders } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import { prepareReading } from "../data/stream.js";

/**
 * Starts the reader threads of a command, which load their modules during the checks before the run. `section` has their number; `threads` is --threads. Throws
 * FILE_UNREADABLE or OUT_OF_MEMORY if the limits of the process are too low for the threads and TensorFlow.
 */
export function startReaderThreads(config: Config, section: "TRAIN" | "TEST" | "INFER", threads: number | undefined): void {
  // A warning about the environment is logged once there is a log.
  const readers = countReaders(
    config[section].num_readers,
    chooseThreads(threads ?? null, () => undefined),
  );
  // The reader threads, the thread that assembles batches and, in training, the one that writes snapshots.
  const workers = readers + (section === "TRAIN" ? 2 : 1);
  requireProcessLimits({ threads: workers, tensorflow: true }, `set ${section}.num_readers to 1`);
  prepareReading(readers);
}
