import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/**
 * npm, npx and the launcher of several processes forward a Ctrl-C that the terminal has already sent: a second signal within this time counts as the same
 * request. Too short for a person to have read the message.
 */
export const SIGNAL_ECHO_MS = 500;

/** Identifies a process uniquely, across machines, containers, reboots and reused process IDs. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** The kernel's boot ID: process IDs and ticks restart with each boot. */
  readonly boot: string;
  /** The PID namespace: each container has its own. */
  readonly namespace: string;
  /** Start time, in kernel ticks since boot. */
  readonly startTicks: number;
}

/** Ticks per second in /proc (proc(5)): 100 on every x86-64 Linux. */
const TICKS_PER_SECOND = 100;

/** Returns the identity of this process. */
export function identifySelf(): ProcessIdentity {
  const startTicks = readStartTicks(process.pid) ?? 0;
  return { pid: process.pid, ...identifyMachine(), startTicks };
}

function identifyMachine(): Pick<ProcessIdentity, "host" | "boot" | "namespace"> {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return { host: hostname(), boot, namespace: readlinkSync("/proc/self/ns/pid") };
}

/** Returns whether a process is running; null if unknown because it belongs to another machine, container or boot. */
export function isRunning(identity: ProcessIdentity): boolean | null {
  const { host, boot, namespace } = identifyMachine();
  if (identity.host !== host || identity.boot !== boot || identity.namespace !== namespace) return null;
  return readStartTicks(identity.pid) === identity.startTicks;
}

/** Returns the start time of the process that has this ID now, in milliseconds since 1970, accurate to about a second, or null. */
export function startTimeMs(pid: number): number | null {
  const ticks = readStartTicks(pid);
  if (ticks === null) return null;
  const bootSeconds = Number(/^btime (\d+)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? 0);
  return (bootSeconds + ticks / TICKS_PER_SECOND) * 1000;
}

/** Reads field 22 of /proc/PID/stat; null for a process that does not exist or is a zombie. */
function readStartTicks(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses, which may itself contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : Number(fields[19]);
  } catch {
    return null;
  }
}
