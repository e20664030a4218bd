import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process group leader and all its descendants. */
export class ProcessTree {
  readonly #leader: number;
  /** Peak memory per process. The kernel keeps the peak while a process runs, so only growth after the last sample is missed. */
  readonly #peaks = new Map<number, number>();

  constructor(leader: number) {
    this.#leader = leader;
  }

  /** Sum of the peaks of all processes so far. */
  get peakBytes(): number {
    return [...this.#peaks.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Samples all processes once and returns the sum of their peaks, in bytes. */
  sample(): number {
    const waiting = [this.#leader];
    for (const pid of waiting) {
      const bytes = peakOf(pid);
      if (bytes !== null) this.#peaks.set(pid, bytes);
      waiting.push(...childrenOf(pid));
    }
    return this.peakBytes;
  }

  /** Kills the whole group. */
  kill(): void {
    try {
      process.kill(-this.#leader, "SIGKILL");
    } catch {
      // All processes have exited.
    }
  }

  /** Waits at most `patienceMs` for the group to exit; returns the number of processes left. */
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

/** Returns VmHWM, the peak resident memory of a process in bytes; null if the process no longer exists. */
function peakOf(pid: number): number | null {
  const kilobytes = /^VmHWM:\s*(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1];
  return kilobytes === undefined ? null : 1024 * Number(kilobytes);
}

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
}

/** Returns the process group of a running process; null if it has exited. */
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
