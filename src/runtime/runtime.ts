import { createRequire } from "node:module";
import { setFlagsFromString } from "node:v8";
import { NextvladError } from "../base/errors.js";
import { setupAgain, setupCommand } from "../base/package.js";
import { showText } from "../base/shown-value.js";
import { chooseThreads, explainThreads, formatThreads, type Threads } from "../base/threads.js";
import { chooseLevel, LEVEL_VARIABLE, type Level } from "./processor.js";
import { assertServing, type ServerOfRank, setServerVariables } from "./server.js";

/** Names of attribute and data types; the binding exports their numbers. */
type BindingConstant =
  | "TF_FLOAT"
  | "TF_INT32"
  | "TF_INT64"
  | "TF_UINT8"
  | "TF_BOOL"
  | "TF_RESOURCE"
  | "TF_STRING"
  | "TF_ATTR_STRING"
  | "TF_ATTR_INT"
  | "TF_ATTR_FLOAT"
  | "TF_ATTR_BOOL"
  | "TF_ATTR_TYPE"
  | "TF_ATTR_SHAPE";

export interface OpAttribute {
  readonly name: string;
  readonly type: number;
  readonly value: string | number | boolean | readonly number[];
}

/** The part of tfjs-node's binding of TensorFlow's C API that is used (binding/tfjs_binding.cc, tag tfjs-v4.22.0). Arrays on the device have numbers. */
export interface Binding extends Readonly<Record<BindingConstant, number>> {
  readonly TF_Version: string;
  isUsingGpuDevice(): boolean;
  /** Creates an array from values on the host, whose memory it may share; returns its number. */
  createTensor(shape: readonly number[], type: number, values: Float32Array | Int32Array): number;
  deleteTensor(id: number): void;
  /** Copies an array to the host; waits for the device. */
  tensorDataSync(id: number): unknown;
  /** Runs a kernel of TensorFlow or of native/. */
  executeOp(
    name: string,
    attributes: readonly OpAttribute[],
    inputs: readonly number[],
    outputs: number,
  ): readonly { readonly id: number; readonly shape: readonly number[] }[];
}

/** The device that runs all kernels, and why it was chosen. */
export interface Device {
  readonly kind: "cpu" | "gpu";
  /** Whether tensors are in host memory. */
  readonly inHostMemory: boolean;
  readonly reason: string;
  /** The processor level that our CPU kernels are compiled for. */
  readonly level: Level;
  /** Threads of TensorFlow and of our CPU kernels. */
  readonly threads: Threads;
  readonly tensorflowVersion: string;
}

/** Formats the device for the log. */
export function formatDevice({ kind, reason, level, threads, tensorflowVersion }: Device): string {
  const device = kind === "cpu" ? `CPU at level ${level}` : "GPU";
  const unusualThreads = threads.count === threads.cpus ? "" : `, ${explainThreads(threads)}`;
  return `computing on the ${device} (${reason})${unusualThreads}, TensorFlow ${tensorflowVersion}`;
}

/** The compiled library of native/. */
interface NativeKernels {
  /** Width in bits of the kernels' vector registers: 512 with AVX-512, 256 with AVX2, else 128. */
  readonly vectorBits: number;
  /** Whether the kernels multiply bytes faster than floats (AVX512-VNNI, AVX-VNNI). */
  readonly byteInstructions: boolean;
  /** Maximum size of what `stage` accepts. */
  readonly maxStagedBytes: number;
  /** Copies floats to a staging buffer for the GPU, without waiting for the device; returns its handle, for NextvladUpload. */
  stage(floats: Float32Array): number;
  /** Sets the number of threads of the CPU kernels. Has no effect after the first kernel has run. */
  setThreads(count: number): void;
  /** Sets whether matrix products on a GPU may round their factors to TensorFloat-32 (range of float32, 10-bit mantissa). */
  allowTensorFloat32(allowed: boolean): void;
}

interface Runtime {
  readonly binding: Binding;
  readonly native: NativeKernels;
  readonly device: Device;
}

let loaded: Runtime | null = null;

/** Returns the loaded library. Throws NOT_SET_UP if `loadTensorflow` has not been called. */
export function runtime(): Runtime {
  if (loaded === null) throw new NextvladError("NOT_SET_UP", "TensorFlow is not loaded", { remedy: "call loadTensorflow first" });
  return loaded;
}

/**
 * Loads TensorFlow's library once per process, and returns the device; later calls ignore `threads`.
 * `useGpu`: true requires a CUDA device, "auto" uses one if there is one, false hides it. Calls `warn` for each variable that `setThreadVariables` ignores.
 * `server` enables collective ops with the other ranks of a cluster. Throws RANK_FAILED if the process cannot listen at its address, NO_DEVICE if `useGpu` is
 * true and there is no CUDA device, NOT_SET_UP if setup has not run, and what `chooseLevel` throws.
 */
export async function loadTensorflow(
  useGpu: boolean | "auto",
  threads = chooseThreads(null, () => undefined),
  warn: (message: string) => void = () => undefined,
  server: ServerOfRank | null = null,
): Promise<Device> {
  if (loaded === null) loaded = await load(useGpu, threads, warn, server);
  if (useGpu === true && loaded.device.kind !== "gpu") {
    throw new NextvladError("NO_DEVICE", `use_gpu is True, but ${loaded.device.reason}`, {
      key: "use_gpu",
      remedy: `check nvidia-smi and CUDA_VISIBLE_DEVICES, run NEXTVLAD_DEVICE=gpu ${setupCommand()}, or use --use-gpu False (or auto)`,
    });
  }
  return loaded.device;
}

/**
 * Sets the precision of a GPU's matrix products: "tf32" rounds their factors to TensorFloat-32 (range of float32, 10-bit mantissa); any other value does not.
 * Throws BAD_USAGE for tf32 on the CPU, which does not have it.
 */
export function setMatmulPrecision(precision: string): void {
  const { device, native } = runtime();
  if (precision === "tf32" && device.kind === "cpu") {
    const remedy = "use --use-gpu True with it, or --precision float32";
    throw new NextvladError("BAD_USAGE", "tf32 requires a GPU", { key: "--precision", remedy });
  }
  native.allowTensorFloat32(precision === "tf32");
}

/**
 * The variables from which TensorFlow reads its numbers of threads (process_util.cc, tag v2.21.0). It aborts the process if a number is negative or exceeds what
 * the system allows.
 */
const THREAD_VARIABLES = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"] as const;

/**
 * Sets TensorFlow's numbers of threads in `environment`. Calls `warn` if a variable had another value: with it, the number of threads that is logged and
 * recorded in snapshots would not be TensorFlow's.
 */
export function setThreadVariables(environment: NodeJS.ProcessEnv, count: number, warn: (message: string) => void): void {
  for (const key of THREAD_VARIABLES) {
    const found = environment[key];
    if (found !== undefined && found !== String(count)) {
      const value = `TensorFlow uses ${formatThreads(count)}, found ${showText(found)}`;
      warn(`ignored the environment variable ${key}: ${value}; use --threads or OMP_NUM_THREADS instead`);
    }
    environment[key] = String(count);
  }
}

/** The compiled module that loads TensorFlow's library (scripts/tensorflow/loader.cc). */
interface Loader {
  /** Redirects standard error to /dev/null, and back. */
  mute(): void;
  unmute(): void;
  /** Starts loading a shared library in a thread. Until `finish`, which waits for it, the environment must not change. */
  preload(path: string): void;
  finish(): void;
}

/** Returns the levels that this processor supports, the best last. Throws NOT_SET_UP. */
export function supportedLevels(): readonly Level[] {
  try {
    return createRequire(import.meta.url)("../../../.native/current/processor.node").levels;
  } catch (error) {
    throw notSetUp(error);
  }
}

/** Returns why a level was chosen: which ones the processor supports, and whether NEXTVLAD_ISA was set. Throws NOT_SET_UP. */
export function explainLevel(): string {
  const supported = supportedLevels();
  const reason = process.env[LEVEL_VARIABLE] === undefined ? "the best that this processor supports" : `set by ${LEVEL_VARIABLE}`;
  return `${reason}, of ${supported.join(", ")}`;
}

/** Returns the module that loads TensorFlow, after setting what TensorFlow reads when it is loaded, and the processor level. Throws as `loadTensorflow` does. */
function prepareLoading(): { readonly loader: Loader; readonly level: Level } {
  const require = createRequire(import.meta.url);
  let loader: Loader;
  try {
    loader = require("../../../.native/current/loader.node");
  } catch (error) {
    throw notSetUp(error);
  }
  const level = chooseLevel(supportedLevels(), process.env);
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";
  return { loader, level };
}

let isPreloading = false;

/**
 * Starts loading TensorFlow's library in a thread, for a later `loadTensorflow`: it takes 0.3 s, as long as loading the modules of a command. Until then, the
 * caller must not change the environment. Loading other native modules waits for it. Never throws: `loadTensorflow` does.
 */
export function preloadTensorflow(): void {
  if (loaded !== null || isPreloading) return;
  isPreloading = true;
  try {
    const { loader } = prepareLoading();
    loader.preload(createRequire(import.meta.url).resolve("../../../.native/current/tensorflow/libtensorflow_cc.so.2"));
    // Otherwise the destructors of what has been loaded would run while the thread initializes the rest, which then never ends.
    process.once("exit", () => loader.finish());
    // Until it has loaded, V8 optimizes no code: that of the module loader does not run long enough to be worth 0.15 s of processor time.
    setFlagsFromString("--no-opt");
  } catch {}
}

async function load(
  useGpu: boolean | "auto",
  threads: Threads,
  warn: (message: string) => void,
  server: ServerOfRank | null,
): Promise<Runtime> {
  const { loader, level } = prepareLoading();
  loader.finish();
  process.env.TF_FORCE_GPU_ALLOW_GROWTH ??= "true";
  setThreadVariables(process.env, threads.count, warn);
  if (useGpu === false) process.env.CUDA_VISIBLE_DEVICES = "-1";
  if (server !== null) setServerVariables(server);
  const { binding, native } = importQuietly(loader, level);
  if (server !== null) assertServing();
  setFlagsFromString("--opt");
  native.setThreads(threads.count);
  native.allowTensorFloat32(false);
  return { binding, native, device: describeDevice(binding, { useGpu, level, threads }) };
}

/** Loads the binding and native/ with stderr's file descriptor muted, because loading them prints TensorFlow's banner to it. */
function importQuietly(loader: Loader, level: Level): Pick<Runtime, "binding" | "native"> {
  const require = createRequire(import.meta.url);
  loader.mute();
  try {
    const load = (name: string): unknown => require(`../../../.native/current/${name}.node`);
    return { binding: load("tfjs_binding") as Binding, native: load(`kernels-${level}`) as NativeKernels };
  } catch (error) {
    throw notSetUp(error);
  } finally {
    loader.unmute();
  }
}

function notSetUp(cause: unknown): NextvladError {
  const firstLine = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
  const isMissing = (cause as NodeJS.ErrnoException | null)?.code === "MODULE_NOT_FOUND";
  const remedy = isMissing ? `run: ${setupCommand()}` : `set it up again: ${setupAgain()}`;
  return new NextvladError("NOT_SET_UP", `TensorFlow's library cannot be loaded: ${firstLine}`, { remedy }, cause);
}

function describeDevice(
  binding: Binding,
  { useGpu, ...choices }: Pick<Device, "level" | "threads"> & { readonly useGpu: boolean | "auto" },
): Device {
  const common = { ...choices, tensorflowVersion: binding.TF_Version };
  if (binding.isUsingGpuDevice()) return { ...common, kind: "gpu", inHostMemory: false, reason: "TensorFlow found a CUDA device" };
  let reason = "TensorFlow found no CUDA device";
  if (useGpu === false) reason = "use_gpu is False";
  else if (process.env.CUDA_VISIBLE_DEVICES === "-1" || process.env.CUDA_VISIBLE_DEVICES === "")
    reason = "CUDA_VISIBLE_DEVICES hides every device";
  return { ...common, kind: "cpu", inHostMemory: true, reason };
}
