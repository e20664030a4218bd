import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NextvladError } from "../base/errors.js";

/** Where `visibleGpus` looks. */
export interface GpuSources {
  readonly environment?: NodeJS.ProcessEnv;
  /** The directory that contains /proc. */
  readonly root?: string;
}

/** Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: all that NVIDIA's driver lists, unless that variable selects some. */
export function visibleGpus({ environment = process.env, root = "/" }: GpuSources = {}): readonly string[] {
  const folder = join(root, "proc/driver/nvidia/gpus");
  const installed = existsSync(folder) ? readdirSync(folder).map((_, i) => String(i)) : [];
  const selected = environment.CUDA_VISIBLE_DEVICES;
  if (selected === undefined || installed.length === 0) return installed;
  const names = selected.split(",").map((name) => name.trim());
  // CUDA ignores an invalid name and all after it.
  const end = names.findIndex((name) => name === "" || name.startsWith("-"));
  return end === -1 ? names : names.slice(0, end);
}

/**
 * Returns the GPU of each of `devices` processes, by the names that CUDA_VISIBLE_DEVICES takes; empty if they run on the CPU. Throws NO_DEVICE if there are fewer
 * GPUs.
 */
export function assignGpus(devices: number, useGpu: boolean | "auto", gpus = visibleGpus()): readonly string[] {
  if (useGpu === false || (useGpu === "auto" && gpus.length === 0)) return [];
  if (devices <= gpus.length) return gpus.slice(0, devices);
  const remedy = "use fewer devices, or --use-gpu False for processes on the CPU";
  throw new NextvladError("NO_DEVICE", "not enough GPUs", { key: "--devices", expected: devices, found: gpus.length, remedy });
}

/** A link to the build of TensorFlow that setup has installed, named `cpu` or `gpu`. */
const BUILD = fileURLToPath(new URL("../../../.native/current", import.meta.url));

/** Returns the GPUs that TensorFlow can use if they work: none with its build for CPUs. */
function usableGpus(): readonly string[] {
  return existsSync(BUILD) && readlinkSync(BUILD) === "cpu" ? [] : visibleGpus();
}

/** What limits the number of processes of a run without `--devices`. */
export interface DeviceLimits {
  /** TRAIN.num_gpus. */
  readonly numGpus: number;
  readonly useGpu: boolean | "auto";
  /** Maximum number of processes that can divide a batch. */
  readonly maxProcesses: number;
}

/** Returns the number of processes that train, one per GPU or one in all, and, if `numGpus` is more than one, a note for the log that says why. */
export function limitDevices(
  { numGpus, useGpu, maxProcesses }: DeviceLimits,
  gpus = usableGpus(),
): { readonly devices: number; readonly note: string | null } {
  if (numGpus <= 1) return { devices: 1, note: null };
  const setting = `TRAIN.num_gpus = ${numGpus}`;
  if (useGpu === false) return { devices: 1, note: `${setting}: use_gpu is False, so one process trains on the CPU` };
  const count = Math.min(numGpus, gpus.length);
  const devices = Math.max(1, Math.min(count, maxProcesses));
  const available = gpus.length === 1 ? "1 GPU is available" : `${gpus.length || "no"} GPUs are available`;
  const batch = maxProcesses < count ? `, and the batch can be divided among ${maxProcesses}` : "";
  return { devices, note: `${setting}: ${available}${batch}, so ${devices === 1 ? "one process trains" : `${devices} processes train`}` };
}
