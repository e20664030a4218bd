import { readFileSync } from "node:fs";

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
