import { readFileSync } from "node:fs";
import { NextvladError, RAISE_OPEN_FILES } from "./errors.js";

/** Names of resource limits in /proc/PID/limits. */
type LimitName = "Max open files" | "Max address space";

/** Returns a soft limit of this process (`ulimit`); Infinity if it is unlimited or unknown. `root` is the folder that contains /proc. */
export function readLimit(name: LimitName, root = "/"): number {
  const line = readLines(`${root}proc/self/limits`).find((text) => text.startsWith(name));
  const value = line?.slice(name.length).trim().split(/\s+/)[0];
  return value === undefined || !/^\d+$/.test(value) ? Number.POSITIVE_INFINITY : Number(value);
}

/** Returns the address space that this process uses, in bytes; 0 if unknown. */
export function readAddressSpace(root = "/"): number {
  const line = readLines(`${root}proc/self/status`).find((text) => text.startsWith("VmSize:"));
  return 1024 * Number(/\d+/.exec(line ?? "")?.[0] ?? 0);
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}

/** Address space in bytes of a thread's heap and allocator, and of TensorFlow with its threads on 2 cores (Node 20, TensorFlow 2.21); from `ulimit -v`. */
const THREAD_ADDRESS_SPACE = 0.75e9;
const TENSORFLOW_ADDRESS_SPACE = 2e9;
/** File descriptors of the process, and of each thread, which loads its own modules; measured. */
const PROCESS_FILES = 64;
const THREAD_FILES = 10;

/** What a command will start. */
export interface Demand {
  /** Worker threads. */
  readonly threads: number;
  readonly tensorflow?: boolean;
}

/**
 * Throws OUT_OF_MEMORY if the address space (`ulimit -v`) is too small for the threads and TensorFlow, which abort the process if it runs out, and
 * FILE_UNREADABLE if there are too few file descriptors (`ulimit -n`). `remedy` says how to use fewer threads. `root` is the folder that contains /proc.
 */
export function requireProcessLimits({ threads, tensorflow = false }: Demand, remedy: string, root = "/"): void {
  const what = `${threads} threads${tensorflow ? " and TensorFlow" : ""}`;
  const files = readLimit("Max open files", root);
  const neededFiles = PROCESS_FILES + THREAD_FILES * threads;
  if (files < neededFiles) {
    throw new NextvladError("FILE_UNREADABLE", `the limit of open files (ulimit -n) is too low for ${what}`, {
      expected: `at least ${neededFiles}`,
      found: files,
      remedy: `${RAISE_OPEN_FILES}; or ${remedy}`,
    });
  }
  const limit = readLimit("Max address space", root);
  const needed = readAddressSpace(root) + threads * THREAD_ADDRESS_SPACE + (tensorflow ? TENSORFLOW_ADDRESS_SPACE : 0);
  if (limit >= needed) return;
  throw new NextvladError("OUT_OF_MEMORY", `the limit of the address space (ulimit -v) is too low for ${what}`, {
    expected: `at least ${Math.ceil(needed / 1024)} kB`,
    found: `${Math.floor(limit / 1024)} kB`,
    remedy: `raise it: ulimit -v unlimited; or ${remedy}`,
  });
}
