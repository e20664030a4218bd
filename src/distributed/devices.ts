import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
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
