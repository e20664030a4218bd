import { join } from "node:path";
import { NextvladError, RAISE_OPEN_FILES } from "./errors.js";
import { formatBytes } from "./numbers.js";
import { cgroupDirectories, readSystemFile } from "./system-files.js";

/** Bytes of memory that this process can still allocate, and what limits them. */
export interface AvailableMemory {
  readonly bytes: number;
  /** Name of the limit, such as "the memory limit of the container (cgroup)". */
  readonly limit: string;
  /** How to raise the limit. */
  readonly remedy: string;
}

const SMALLER = "use a smaller model or batch";

/**
 * Returns the available memory: the minimum over the machine (MemAvailable), the process's cgroup (versions 1 and 2) and its address space (`ulimit -v`).
 * Cached file pages and free swap count as available. `root` is the directory that contains /proc and /sys.
 */
export function availableMemory(root = "/"): AvailableMemory {
  const machine = {
    bytes: availableOnMachine(root),
    limit: "the memory of this machine (MemAvailable and SwapFree)",
    remedy: `close other programs, or ${SMALLER}`,
  };
  const cgroup = {
    bytes: availableInCgroup(root),
    limit: "the memory limit of the container (cgroup)",
    remedy: `raise the container's memory limit, or ${SMALLER}`,
  };
  const addresses = {
    bytes: Math.max(0, readLimit("Max address space", root) - readAddressSpace(root)),
    limit: "the limit of the address space (ulimit -v)",
    remedy: `raise it with ulimit -v, or ${SMALLER}`,
  };
  return [machine, cgroup, addresses].reduce((lowest, other) => (other.bytes < lowest.bytes ? other : lowest));
}

/** Throws OUT_OF_MEMORY if the sum of `parts` exceeds the available memory. `parts` maps names to sizes in bytes. */
export function requireMemory(what: string, parts: Readonly<Record<string, number>>, available = availableMemory()): void {
  const needed = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  if (needed <= available.bytes) return;
  const list = Object.entries(parts).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  throw new NextvladError("OUT_OF_MEMORY", `${what} needs more memory than is available (${list.join(", ")})`, {
    expected: `at least ${formatBytes(needed)}`,
    found: `${formatBytes(available.bytes)} within ${available.limit}`,
    remedy: available.remedy,
  });
}

function availableOnMachine(root: string): number {
  const available = readMeminfo("MemAvailable", root);
  return available === null ? Number.POSITIVE_INFINITY : available + freeSwap(root);
}

function freeSwap(root: string): number {
  return readMeminfo("SwapFree", root) ?? 0;
}

function readMeminfo(name: "MemAvailable" | "SwapFree", root: string): number | null {
  const kilobytes = new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(readSystemFile(join(root, "proc/meminfo")))?.[1];
  return kilobytes === undefined ? null : 1024 * Number(kilobytes);
}

/** Where versions 2 and 1 of cgroups report a group's limit and usage. */
const VERSIONS = [
  {
    version: 2,
    limit: "memory.max",
    usage: "memory.current",
    swapLimit: "memory.swap.max",
    swapUsage: "memory.swap.current",
    cached: /^(?:in)?active_file (\d+)$/gm,
  },
  {
    version: 1,
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    // In version 1, these two are memory plus swap.
    swapLimit: "memory.memsw.limit_in_bytes",
    swapUsage: "memory.memsw.usage_in_bytes",
    cached: /^total_(?:in)?active_file (\d+)$/gm,
  },
] as const;

function availableInCgroup(root: string): number {
  const swap = freeSwap(root);
  const groups = VERSIONS.flatMap((files) =>
    cgroupDirectories(files.version, "memory", root).map((directory) => availableInGroup(directory, files, swap)),
  );
  return Math.min(...groups);
}

function availableInGroup(directory: string, files: (typeof VERSIONS)[number], freeSwap: number): number {
  const { version, limit, usage, swapLimit, swapUsage, cached } = files;
  const number = (name: string): number | null => {
    const text = readSystemFile(join(directory, name)).trim();
    // The text is "max" for no limit, or empty if the file does not exist.
    return /^\d+$/.test(text) ? Number(text) : null;
  };
  const max = number(limit);
  if (max === null) return Number.POSITIVE_INFINITY;
  const used = number(usage) ?? 0;
  // Active pages count too: they include shards that were read twice.
  const cachedBytes = [...readSystemFile(join(directory, "memory.stat")).matchAll(cached)].reduce(
    (sum, [, bytes]) => sum + Number(bytes),
    0,
  );
  const memory = Math.max(0, max - Math.max(0, used - cachedBytes));
  const swapMax = number(swapLimit) ?? Number.POSITIVE_INFINITY;
  const swap = swapMax - (number(swapUsage) ?? 0) - (version === 1 ? max - used : 0);
  return memory + Math.max(0, Math.min(freeSwap, swap));
}

/** Names of resource limits in /proc/PID/limits. */
type LimitName = "Max open files" | "Max address space";

/** Returns a soft limit of this process (`ulimit`); Infinity if it is unlimited or unknown. `root` is the directory that contains /proc. */
export function readLimit(name: LimitName, root = "/"): number {
  const line = readSystemFile(join(root, "proc/self/limits"))
    .split("\n")
    .find((text) => text.startsWith(name));
  const value = line?.slice(name.length).trim().split(/\s+/)[0];
  return value === undefined || !/^\d+$/.test(value) ? Number.POSITIVE_INFINITY : Number(value);
}

/** Returns the address space that this process uses, in bytes; 0 if unknown. */
export function readAddressSpace(root = "/"): number {
  const line = readSystemFile(join(root, "proc/self/status"))
    .split("\n")
    .find((text) => text.startsWith("VmSize:"));
  return 1024 * Number(/\d+/.exec(line ?? "")?.[0] ?? 0);
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
 * FILE_UNREADABLE if there are too few file descriptors (`ulimit -n`). `remedy` says how to use fewer threads. `root` is the directory that contains /proc.
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
