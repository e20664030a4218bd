import { createRequire, Module } from "node:module";
import nodeUtil from "node:util";
import { setFlagsFromString } from "node:v8";
import { NextvladError } from "../base/errors.js";
import { setUpCommand } from "../base/package.js";

/** What is used of tfjs. */
export type Tfjs = Pick<
  typeof import("@tensorflow/tfjs-node-gpu"),
  "Tensor" | "backend" | "dispose" | "engine" | "keep" | "memory" | "registerBackend" | "registerKernel" | "setBackend" | "tensor"
>;
export type Tensor = import("@tensorflow/tfjs-node-gpu").Tensor;

/** What the binding calls its attribute and data types: numbers that it exports itself. */
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

/** The part of tfjs-node's backend that kernels are run through (nodejs_kernel_backend.js, tag tfjs-v4.22.0). */
export interface NodeBackend {
  readonly binding: Readonly<Record<BindingConstant, number>> & { readonly TF_Version: string };
  readonly isUsingGpuDevice: boolean;
  executeSingleOutput(name: string, attributes: readonly OpAttribute[], inputs: readonly Tensor[]): Tensor;
  executeMultipleOutputs(name: string, attributes: readonly OpAttribute[], inputs: readonly Tensor[], outputs: number): Tensor[];
}

/** The device that everything runs on, and why. */
export interface Device {
  readonly kind: "cpu" | "gpu";
  /** Whether tensors are in host memory. */
  readonly inHostMemory: boolean;
  readonly reason: string;
  readonly tensorflowVersion: string;
}

/** The line that every run's log has of it. */
export function tellDevice({ kind, reason, tensorflowVersion }: Device): string {
  return `computing on the ${kind.toUpperCase()} (${reason}), TensorFlow ${tensorflowVersion}`;
}

/** What native/ was compiled to. */
interface NativeKernels {
  /** The width of a register of floats that the kernels use: 512 with AVX-512, 256 with AVX2. */
  readonly vectorBits: number;
  /** Whether the processor multiplies bytes faster than floats. */
  readonly byteInstructions: boolean;
  /** Copies floats, 128 MiB at most, to where a GPU reaches them without waiting for it; returns the place, for NextvladUpload. */
  stage(floats: Float32Array): number;
  /** Says whether a GPU's matrix products may round their factors to TensorFloat-32, which has float32's range and ten binary digits. */
  allowTensorFloat32(allowed: boolean): void;
}

interface Runtime {
  readonly tf: Tfjs;
  readonly native: NativeKernels;
  readonly backend: NodeBackend;
  readonly device: Device;
}

let loaded: Runtime | null = null;

/** The loaded library. Throws NOT_SET_UP where `loadTensorflow` has not been called. */
export function runtime(): Runtime {
  if (loaded === null) throw new NextvladError("NOT_SET_UP", "TensorFlow is not loaded", { remedy: "call loadTensorflow first" });
  return loaded;
}

/**
 * Loads TensorFlow's library, once a process, and settles the device.
 * `useGpu` true is a promise: NO_DEVICE where there is no CUDA device; "auto" takes one where there is one; false hides it.
 * Throws NOT_SET_UP where set-up has not run.
 */
export async function loadTensorflow(useGpu: boolean | "auto"): Promise<Device> {
  if (loaded === null) loaded = await load(useGpu);
  if (useGpu === true && loaded.device.kind !== "gpu") {
    throw new NextvladError("NO_DEVICE", `use_gpu is True, and ${loaded.device.reason}`, {
      key: "use_gpu",
      remedy: `check nvidia-smi and CUDA_VISIBLE_DEVICES, run NEXTVLAD_DEVICE=gpu ${setUpCommand()}, or use --use-gpu False (or auto)`,
    });
  }
  return loaded.device;
}

/**
 * Settles how exactly a GPU multiplies: with "tf32" its matrix products round their factors to TensorFloat-32, which has float32's range and ten binary
 * digits; by default they do not. Throws BAD_USAGE for tf32 on the CPU, which has none.
 */
export function settlePrecision(precision: string): void {
  const { device, native } = runtime();
  if (precision === "tf32" && device.kind === "cpu") {
    const remedy = "use --use-gpu True with it, or --precision float32";
    throw new NextvladError("BAD_USAGE", "tf32 is a precision for a GPU", { key: "--precision", remedy });
  }
  native.allowTensorFloat32(precision === "tf32");
}

/**
 * The warning for a precision that is slower than float32 on this device, or null. The integer precisions need AVX512-VNNI: without it they took
 * 1.9 (int8) to 2.7 (int16) times as long as float32 (full-size model, two AVX2 cores).
 */
export function slowPrecisionWarning(
  precision: string,
  { kind, byteInstructions }: Pick<Device, "kind"> & Pick<NativeKernels, "byteInstructions">,
): string | null {
  if (kind !== "cpu" || byteInstructions || !/^int\d/.test(precision)) return null;
  return `--precision ${precision} is slower than float32 on this processor, which lacks AVX512-VNNI: use --precision float32`;
}

/** TensorFlow aborts the process at once with a negative number of threads, or with more than the system gives. */
const THREAD_VARIABLES = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"] as const;
const MAX_THREADS = 1024;

/** Throws BAD_USAGE if the environment asks TensorFlow for an impossible number of threads. */
export function checkThreadVariables(environment: NodeJS.ProcessEnv): void {
  for (const key of THREAD_VARIABLES) {
    const found = environment[key];
    if (found === undefined || (/^\d+$/.test(found) && Number(found) <= MAX_THREADS)) continue;
    const remedy = "change or unset this environment variable";
    throw new NextvladError("BAD_USAGE", "invalid value", { key, expected: `a whole number, 0 to ${MAX_THREADS}`, found, remedy });
  }
}

async function load(useGpu: boolean | "auto"): Promise<Runtime> {
  checkThreadVariables(process.env);
  restoreRemovedUtil();
  // Half a megabyte of a step's small objects outlives each quick collection. V8 would let 80 MB of them gather before it looks at all of its heap: memory
  // of a small training rose and fell by 11 %. At 30 % more than what is in use, a look every 150 steps or so, of 20 ms, keeps it level.
  setFlagsFromString("--heap-growing-percent=30");
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";
  process.env.TF_FORCE_GPU_ALLOW_GROWTH ??= "true";
  if (useGpu === false) process.env.CUDA_VISIBLE_DEVICES = "-1";
  const { tf, native } = importQuietly();
  native.allowTensorFloat32(false);
  const backend = tf.backend() as unknown as NodeBackend;
  return { tf, backend, native, device: describeDevice(backend, useGpu) };
}

/** Node 23 removed the functions of `util` that tfjs-node 4.22 still calls (tfjs issue 8609). */
function restoreRemovedUtil(): void {
  const util = nodeUtil as unknown as Record<string, unknown>;
  util.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  util.isArray ??= Array.isArray;
}

/** What is loaded of the binding prints TensorFlow's banner to the file descriptor: that is not ours to print. */
function importQuietly(): Pick<Runtime, "tf" | "native"> {
  const require = createRequire(import.meta.url);
  let standardError: { mute(): void; unmute(): void };
  try {
    standardError = require("../../../.native/current/mute.node");
  } catch (error) {
    throw notSetUp(error);
  }
  standardError.mute();
  try {
    return { tf: importBackend(require), native: require("../../../.native/current/kernels.node") as NativeKernels };
  } catch (error) {
    throw notSetUp(error);
  } finally {
    standardError.unmute();
  }
}

/**
 * Loads tfjs's core and the backend that runs TensorFlow's kernels, as tfjs-node-gpu's own index.js does (tag tfjs-v4.22.0), but not what else comes with
 * it: layers, converters, other backends and 200 kernels, none of which are used, take 230 ms of CPU time to load.
 */
function importBackend(require: NodeJS.Require): Tfjs {
  const ofNode = createRequire(require.resolve("@tensorflow/tfjs-node-gpu"));
  const union = ofNode.resolve("@tensorflow/tfjs");
  const tf = createRequire(union)("@tensorflow/tfjs-core") as Tfjs;
  // The backend requires the union package and uses only what the core exports: hand it the core.
  const standIn = new Module(union);
  standIn.exports = tf;
  standIn.loaded = true;
  const before = require.cache[union];
  require.cache[union] = standIn;
  try {
    const { NodeJSKernelBackend } = ofNode("./nodejs_kernel_backend");
    const binding: unknown = require("../../../.native/current/tfjs_binding.node");
    // Of its kernels, clone() runs this one; all others are run by name.
    tf.registerKernel(ofNode("./kernels/Identity").identityConfig);
    tf.registerBackend("tensorflow", () => new NodeJSKernelBackend(binding, "@tensorflow/tfjs-node-gpu"));
  } finally {
    if (before === undefined) delete require.cache[union];
    else require.cache[union] = before;
  }
  tf.setBackend("tensorflow");
  return tf;
}

function notSetUp(cause: unknown): NextvladError {
  const firstLine = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
  return new NextvladError(
    "NOT_SET_UP",
    `TensorFlow's library cannot be loaded: ${firstLine}`,
    { remedy: `run: ${setUpCommand()}` },
    cause,
  );
}

function describeDevice(backend: NodeBackend, useGpu: boolean | "auto"): Device {
  const tensorflowVersion = backend.binding.TF_Version;
  if (backend.isUsingGpuDevice) return { kind: "gpu", inHostMemory: false, reason: "TensorFlow found a CUDA device", tensorflowVersion };
  let reason = "TensorFlow found no CUDA device";
  if (useGpu === false) reason = "use_gpu is False";
  else if (process.env.CUDA_VISIBLE_DEVICES === "-1" || process.env.CUDA_VISIBLE_DEVICES === "")
    reason = "CUDA_VISIBLE_DEVICES hides every device";
  return { kind: "cpu", inHostMemory: true, reason, tensorflowVersion };
}

/** Runs `step`, then frees every tensor made in it but those it returns, alone or in arrays and plain objects. */
export function tidy<T>(step: () => T): T {
  const engine = runtime().tf.engine();
  const survivors: Tensor[] = [];
  engine.startScope("step");
  try {
    const result = step();
    collectTensors(result, survivors);
    return result;
  } finally {
    engine.endScope(survivors);
  }
}

/** tfjs's own search walks a typed array value by value: reading back 2 million floats took 1.5 s of it. */
function collectTensors(value: unknown, into: Tensor[]): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if (value instanceof runtime().tf.Tensor) into.push(value);
  else for (const item of Array.isArray(value) ? value : Object.values(value)) collectTensors(item, into);
}

/** Frees tensors as soon as they are dead, so that a step's peak memory is that of its largest moment and not of its sum. */
export function release(...tensors: readonly Tensor[]): void {
  for (const tensor of tensors) tensor.dispose();
}

/** Takes tensors out of the enclosing `tidy`'s care: they live until disposed of. */
export function keep<T extends Tensor>(tensor: T): T {
  return runtime().tf.keep(tensor);
}
