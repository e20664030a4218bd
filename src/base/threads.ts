import { cpus } from "node:os";
import { join } from "node:path";
import { showText } from "./shown-value.js";
import { cgroupDirectories, readSystemFile } from "./system-files.js";

/** Maximum number of threads. */
export const MAX_THREADS = 1024;

const OMP_VARIABLE = "OMP_NUM_THREADS";

/** Maximum threads that compute for which one thread reads by default. */
const MAX_THREADS_OF_ONE_READER = 4;

/** The number of threads that compute, and why it was chosen. */
export interface Threads {
  readonly count: number;
  /** Number of CPUs of the machine. */
  readonly cpus: number;
  /** What sets `count`, such as "--threads" or "cpu.max"; null if it is the number of CPUs. */
  readonly setBy: string | null;
}

/** Where `chooseThreads` reads settings. */
export interface ThreadSources {
  readonly environment?: NodeJS.ProcessEnv;
  /** The directory that contains /proc and /sys. */
  readonly root?: string;
}

/**
 * Chooses the number of threads for TensorFlow, our kernels and, by default, what reads shards: `flag` (--threads), else OMP_NUM_THREADS, else the CPUs that the
 * process may run on (its affinity mask), at most the CPU quota of its control group, rounded up. Calls `warn` if OMP_NUM_THREADS is invalid, and ignores it.
 */
export function chooseThreads(
  flag: number | null,
  warn: (message: string) => void,
  { environment = process.env, root = "/" }: ThreadSources = {},
): Threads {
  const machine = countCpus(readSystemFile(join(root, "sys/devices/system/cpu/online"))) ?? cpus().length;
  if (flag !== null) return { count: flag, cpus: machine, setBy: "--threads" };
  const text = environment[OMP_VARIABLE];
  const given = text === undefined ? null : firstNumber(text);
  if (given !== null) return { count: given, cpus: machine, setBy: OMP_VARIABLE };
  if (text !== undefined) {
    warn(`ignored the environment variable ${OMP_VARIABLE}: expected an integer from 1 to ${MAX_THREADS}, found ${showText(text)}`);
  }
  // The mask may contain CPUs that are offline.
  const allowed = countCpus(/^Cpus_allowed_list:\s*(.*)$/m.exec(readSystemFile(join(root, "proc/self/status")))?.[1] ?? "");
  const affinity = Math.min(machine, allowed ?? machine);
  const quota = cpuQuota(root);
  const quotaCpus = Math.max(1, Math.ceil(quota.cpus));
  if (quotaCpus < affinity) return { count: quotaCpus, cpus: machine, setBy: quota.file };
  return { count: affinity, cpus: machine, setBy: affinity < machine ? "CPU affinity" : null };
}

/**
 * Returns the number of reader threads: `configured`, else one, or two if more than 4 threads compute. Each compiles its code for itself: on 2 CPUs, a second
 * one made an eval of 10,187 clips take 8 % longer.
 */
export function countReaders(configured: number | null, { count }: Threads): number {
  return configured ?? (count > MAX_THREADS_OF_ONE_READER ? 2 : 1);
}

/** Formats a number of threads. */
export function formatThreads(count: number): string {
  return count === 1 ? "1 thread" : `${count} threads`;
}

/** Formats with its reason a number of threads that differs from the number of CPUs: "2 threads on 16 CPUs (cpu.max)". */
export function explainThreads({ count, cpus, setBy }: Threads): string {
  return `${formatThreads(count)} on ${cpus} ${cpus === 1 ? "CPU" : "CPUs"} (${setBy})`;
}

/** Returns the first number of OMP_NUM_THREADS, which may list one for each level of nested parallelism ("4,2"); null if the list is invalid. */
function firstNumber(text: string): number | null {
  const numbers = text.split(",").map((part) => (/^\s*\+?\d+\s*$/.test(part) ? Number(part) : 0));
  return numbers.every((number) => number >= 1 && number <= MAX_THREADS) ? (numbers[0] as number) : null;
}

/** Counts the CPUs in a list of the kernel such as "0-3,8"; null if it is empty. */
function countCpus(list: string): number | null {
  let count = 0;
  for (const [, first, last = first] of list.matchAll(/(\d+)(?:-(\d+))?/g)) count += Number(last) - Number(first) + 1;
  return count === 0 ? null : count;
}

/** Returns the smallest CPU quota of the process's control groups, in CPUs, and the file that has it; Infinity without a quota. */
function cpuQuota(root: string): { readonly cpus: number; readonly file: string } {
  const quotas = [
    ...cgroupDirectories(2, "cpu", root).map((directory) => {
      const [quota, period] = readSystemFile(join(directory, "cpu.max")).split(" ");
      return { cpus: divide(quota, period), file: "cpu.max" };
    }),
    ...cgroupDirectories(1, "cpu", root).map((directory) => {
      const [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map((name) => readSystemFile(join(directory, name)));
      return { cpus: divide(quota, period), file: "cpu.cfs_quota_us" };
    }),
  ];
  return quotas.reduce((lowest, other) => (other.cpus < lowest.cpus ? other : lowest));
}

/** Returns the quotient of two positive integers; Infinity for other texts, such as "max" or -1, which mean no quota. */
function divide(quota = "", period = ""): number {
  const [time, interval] = [quota, period].map((text) => (/^\d+$/.test(text.trim()) ? Number(text) : 0)) as [number, number];
  return time > 0 ? time / interval : Number.POSITIVE_INFINITY;
}
