import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** What tells a process from every other that has had its number, or will have it, on this machine or another. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** The kernel's id of this boot: numbers and ticks begin anew with the next one. */
  readonly boot: string;
  /** The namespace that the number counts in: each container has its own. */
  readonly namespace: string;
  /** When it started, in the kernel's ticks since the boot. */
  readonly startTicks: number;
}

/** Ticks a second in what the kernel tells programs (proc(5)): 100 on every x86-64 Linux. */
const TICKS_PER_SECOND = 100;

/** This process. */
export function identifySelf(): ProcessIdentity {
  const startTicks = readStartTicks(process.pid) ?? 0;
  return { pid: process.pid, ...identifyMachine(), startTicks };
}

function identifyMachine(): Pick<ProcessIdentity, "host" | "boot" | "namespace"> {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return { host: hostname(), boot, namespace: readlinkSync("/proc/self/ns/pid") };
}

/** Whether a process still runs; null where that cannot be seen from here, as it is another machine's or container's. */
export function isRunning(identity: ProcessIdentity): boolean | null {
  const { host, boot, namespace } = identifyMachine();
  if (identity.host !== host || identity.boot !== boot || identity.namespace !== namespace) return null;
  return readStartTicks(identity.pid) === identity.startTicks;
}

/** When the process that has this number now was started, in milliseconds since 1970, to a second or so; null where there is none. */
export function startTimeMs(pid: number): number | null {
  const ticks = readStartTicks(pid);
  if (ticks === null) return null;
  const bootSeconds = Number(/^btime (\d+)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? 0);
  return (bootSeconds + ticks / TICKS_PER_SECOND) * 1000;
}

/** Field 22 of /proc/PID/stat; null for a process that is not there, or dead and not yet fetched by its parent. */
function readStartTicks(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in brackets, and may hold blanks and brackets of its own.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : Number(fields[19]);
  } catch {
    return null;
  }
}
