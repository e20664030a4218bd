/**
 * The process that `doctor` starts to load TensorFlow, which may end it, and to time a matrix product. Sends a `ProbeReply` to its parent. Arguments: the number
 * of threads.
 */
import { type SerializedError, serializeError } from "../base/errors.js";
import { readSystemFile } from "../base/system-files.js";
import { MAX_THREADS } from "../base/threads.js";
import { matMul } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { peakGigaflops } from "../runtime/processor.js";
import { formatDevice, loadTensorflow, supportedLevels } from "../runtime/runtime.js";
import { tidy } from "../runtime/tensor.js";
import { toFloats } from "../runtime/transfer.js";

/** What TensorFlow computes on here. */
export interface Probe {
  readonly tensorflow: string;
  readonly kind: "cpu" | "gpu";
  /** Device, reason, threads and version, as `train` logs them. */
  readonly device: string;
  readonly level: string;
  readonly supportedLevels: readonly string[];
  /** 10^9 float32 operations per second of a matrix product. */
  readonly gigaflops: number;
  /** The maximum of the processor's threads; null on a GPU, or if it is unknown. */
  readonly peakGigaflops: number | null;
}

export type ProbeReply = { readonly probe: Probe } | { readonly error: SerializedError };

/** Rows and columns of the matrices: a product of 4.3e9 operations, which takes 40 ms on two AVX2 cores. */
const SIZE = 1290;
const TIMED_PRODUCTS = 5;

async function probe(threads: number): Promise<Probe> {
  const device = await loadTensorflow("auto", { count: threads, cpus: threads, setBy: null });
  const { tensorflowVersion: tensorflow, kind, level, inHostMemory } = device;
  const peak = inHostMemory ? peakGigaflops(level, threads, readSystemFile("/proc/cpuinfo")) : null;
  const facts = { tensorflow, kind, device: formatDevice(device), level, supportedLevels: supportedLevels() };
  return { ...facts, gigaflops: timeProducts(), peakGigaflops: peak };
}

/** Returns the rate of the fastest of several products: others may have shared the processor. The result of each is read, which waits for a GPU. */
function timeProducts(): number {
  return tidy(() => {
    const x = fill([SIZE, SIZE], 0.5);
    let seconds = Number.POSITIVE_INFINITY;
    for (let i = 0; i <= TIMED_PRODUCTS; i++) {
      const start = performance.now();
      toFloats(matMul(x, x));
      // The first one starts TensorFlow's threads.
      if (i > 0) seconds = Math.min(seconds, (performance.now() - start) / 1000);
    }
    return (2 * SIZE ** 3) / seconds / 1e9;
  });
}

const threads = Math.min(MAX_THREADS, Number(process.argv[2]));
const reply: ProbeReply = await probe(threads).then(
  (result) => ({ probe: result }),
  (error: unknown) => ({ error: serializeError(error) }),
);
process.send?.(reply, () => process.exit(0));
