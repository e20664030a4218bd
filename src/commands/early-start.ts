import { readLimit } from "../base/resource-limits.js";
import { prepareBatches } from "../data/stream.js";
import { loadCrc32 } from "../formats/crc32.js";
import { preloadTensorflow } from "../runtime/runtime.js";

/**
 * Starts what takes long and depends on no flag, while the caller loads a command's code: loading TensorFlow's library, and the thread that assembles batches.
 * Does nothing if the address space is limited (ulimit -v): `startReaderThreads` then checks first whether everything fits.
 */
export function startEarly(): void {
  if (readLimit("Max address space") !== Number.POSITIVE_INFINITY) return;
  // First, because loading another native module waits for TensorFlow's library.
  loadCrc32();
  prepareBatches();
  preloadTensorflow();
}
