import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setupAgain, setupCommand } from "../base/package.js";
import { readSystemFile } from "../base/system-files.js";

/** Libraries that TensorFlow's CUDA build loads, from its nvidia-* wheels (scripts/tensorflow/gpu.txt). */
const LIBRARIES = [
  "libcudart.so.12",
  "libcublas.so.12",
  "libcublasLt.so.12",
  "libcufft.so.11",
  "libcusolver.so.11",
  "libcusparse.so.12",
  "libcudnn.so.9",
  "libnccl.so.2",
] as const;

/** What decides whether a GPU is used. */
export interface CudaFacts {
  /** The device that TensorFlow uses; null if it cannot be loaded. */
  readonly kind: "cpu" | "gpu" | null;
  /** Number of GPUs that the process may use. */
  readonly visible: number;
  readonly environment: NodeJS.ProcessEnv;
  /** The directory that contains /proc. */
  readonly root: string;
  /** The directory of setup's builds. */
  readonly native: string;
}

/** Returns whether there is an NVIDIA driver and a GPU is used; if there is a driver and it is not, why, and what to do. */
export function explainCuda({ kind, visible, environment, root, native }: CudaFacts): {
  readonly found: string;
  readonly remedy: string | null;
} {
  const driver = driverVersion(root);
  if (driver === null) return { found: "no NVIDIA driver, so the CPU is used", remedy: null };
  const found = `NVIDIA driver ${driver}, ${visible} visible ${visible === 1 ? "device" : "devices"}`;
  if (kind === "gpu") return { found, remedy: null };
  if (visible === 0) return { found, remedy: "check nvidia-smi and CUDA_VISIBLE_DEVICES" };
  const setup = `NEXTVLAD_DEVICE=gpu ${setupCommand()}`;
  if (buildIn(native) !== "gpu") return { found: `${found}, but setup has installed the CPU build of TensorFlow`, remedy: setup };
  const missing = missingLibraries(join(native, "gpu"), environment);
  if (missing.length > 0) {
    return { found: `${found}; CUDA libraries are missing: ${missing.join(", ")}`, remedy: setupAgain("gpu", setup) };
  }
  return { found: `${found}, but TensorFlow finds no device`, remedy: "update the driver: CUDA 12 needs version 525 or newer" };
}

/** Returns the version of NVIDIA's driver; null without a driver. */
function driverVersion(root: string): string | null {
  const text = readSystemFile(join(root, "proc/driver/nvidia/version"));
  return /Kernel Module.*?\s(\d+\.\d[\d.]*)/.exec(text)?.[1] ?? (text === "" ? null : "unknown");
}

/** Returns the build of TensorFlow that setup has installed, "cpu" or "gpu"; null if none. */
function buildIn(native: string): string | null {
  try {
    return readlinkSync(join(native, "current"));
  } catch {
    return null;
  }
}

/** Returns the names of CUDA's libraries that are neither in setup's build nor in LD_LIBRARY_PATH. */
function missingLibraries(build: string, environment: NodeJS.ProcessEnv): readonly string[] {
  const wheels = join(build, "nvidia");
  const unpacked = existsSync(wheels) ? readdirSync(wheels).map((name) => join(wheels, name, "lib")) : [];
  const directories = [...unpacked, ...(environment.LD_LIBRARY_PATH ?? "").split(":").filter(Boolean)];
  return LIBRARIES.filter((library) => !directories.some((directory) => existsSync(join(directory, library))));
}
