import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process that leads a group, and all that it starts. */
export class ProcessTree {
  readonly #leader: number;
  /** The peak of each process: the kernel keeps it while the process runs, so that only growth since the last sample is missed. */
  readonly #peaks = new Map<number, number>();

  constructor(leader: number) {
    this.#leader = leader;
  }

  /** The sum of all processes' peaks so far. */
  get peakBytes(): number {
    return [...this.#peaks.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Looks at the processes once; returns their peak. */
  sample(): number {
    const waiting = [this.#leader];
    for (const pid of waiting) {
      const bytes = peakOf(pid);
      if (bytes !== null) this.#peaks.set(pid, bytes);
      waiting.push(...childrenOf(pid));
    }
    return this.peakBytes;
  }

  /** Ends the whole group. */
  kill(): void {
    try {
      process.kill(-this.#leader, "SIGKILL");
    } catch {
      // All have ended.
    }
  }

  /** Waits for the group to end, for a while; returns how many processes are left. */
  async waitForEnd(patienceMs: number): Promise<number> {
    const endMs = performance.now() + patienceMs;
    for (;;) {
      const count = this.#count();
      if (count === 0 || performance.now() > endMs) return count;
      await sleep(10);
    }
  }

  #count(): number {
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && groupOf(name) === this.#leader).length;
  }
}

/** VmHWM: the most memory that a process had in use; null where there is no such process any more. */
function peakOf(pid: number): number | null {
  const kilobytes = /^VmHWM:\s*(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1];
  return kilobytes === undefined ? null : 1024 * Number(kilobytes);
}

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
}

/** The group of a process that has not ended; null for others. */
function groupOf(pid: string): number | null {
  const [, state, group] = /\) (\S) \d+ (\d+)/.exec(read(`/proc/${pid}/stat`)) ?? [];
  return group === undefined || state === "Z" ? null : Number(group);
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
