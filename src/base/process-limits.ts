import { readFileSync } from "node:fs";

/** The limits of a process that the system enforces, as /proc/PID/limits names them. */
type LimitName = "Max open files" | "Max address space";

/** A soft limit of this process (`ulimit`); Infinity if there is none, or if the system does not say. `root` is the folder that /proc is in. */
export function readLimit(name: LimitName, root = "/"): number {
  const line = readLines(`${root}proc/self/limits`).find((text) => text.startsWith(name));
  const value = line?.slice(name.length).trim().split(/\s+/)[0];
  return value === undefined || !/^\d+$/.test(value) ? Number.POSITIVE_INFINITY : Number(value);
}

/** The address space that this process uses, in bytes; 0 if the system does not say. */
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
