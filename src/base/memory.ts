import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { formatBytes } from "./byte-size.js";
import { NextvladError } from "./errors.js";
import { readAddressSpace, readLimit } from "./process-limits.js";

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
 * Cached file pages and free swap count as available. `root` is the folder that contains /proc and /sys.
 */
export function availableMemory(root = "/"): AvailableMemory {
  const machine = {
    bytes: availableOnMachine(root),
    limit: "the memory of this machine (MemAvailable and SwapFree)",
    remedy: `end other programs, or ${SMALLER}`,
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
  return [machine, cgroup, addresses].reduce((least, other) => (other.bytes < least.bytes ? other : least));
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
  const kilobytes = new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(read(join(root, "proc/meminfo")))?.[1];
  return kilobytes === undefined ? null : 1024 * Number(kilobytes);
}

/** Where versions 2 and 1 of cgroups report a group's limit and usage. The limits of its ancestors apply too. */
const VERSIONS = [
  {
    line: /^0::(.*)$/m,
    folder: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    swapLimit: "memory.swap.max",
    swapUsage: "memory.swap.current",
    cached: /^(?:in)?active_file (\d+)$/gm,
  },
  {
    line: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m,
    folder: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    // In version 1, these two are memory plus swap.
    swapLimit: "memory.memsw.limit_in_bytes",
    swapUsage: "memory.memsw.usage_in_bytes",
    cached: /^total_(?:in)?active_file (\d+)$/gm,
  },
] as const;

function availableInCgroup(root: string): number {
  const groups = read(join(root, "proc/self/cgroup"));
  let least = Number.POSITIVE_INFINITY;
  for (const version of VERSIONS) {
    const path = version.line.exec(groups)?.[1];
    // In a container, the path may be the host's, while the group itself is mounted as the root.
    for (let group = path ?? "/"; ; group = dirname(group)) {
      least = Math.min(least, availableInGroup(join(root, version.folder, group), version, freeSwap(root)));
      if (group === "/" || group === ".") break;
    }
  }
  return least;
}

function availableInGroup(folder: string, version: (typeof VERSIONS)[number], freeSwap: number): number {
  const { limit, usage, swapLimit, swapUsage, cached } = version;
  const number = (name: string): number | null => {
    const text = read(join(folder, name)).trim();
    // The text is "max" for no limit, or empty if the file does not exist.
    return /^\d+$/.test(text) ? Number(text) : null;
  };
  const most = number(limit);
  if (most === null) return Number.POSITIVE_INFINITY;
  const used = number(usage) ?? 0;
  // Active pages count too: they include shards that were read twice.
  const cachedBytes = [...read(join(folder, "memory.stat")).matchAll(cached)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
  const memory = Math.max(0, most - Math.max(0, used - cachedBytes));
  const includesMemory = version.folder === VERSIONS[1].folder;
  const swapMost = number(swapLimit) ?? Number.POSITIVE_INFINITY;
  const swap = swapMost - (number(swapUsage) ?? 0) - (includesMemory ? most - used : 0);
  return memory + Math.max(0, Math.min(freeSwap, swap));
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
