import { rm } from "node:fs/promises";
import type { Logger } from "pino";
import { writeFileAtomic } from "../base/files.js";
import { readInput } from "../base/input.js";
import { resolveOutputFile } from "../base/output-checks.js";
import { escapeJson } from "../base/shown-value.js";

/** Number of events that are all logged. */
const MAX_LOGGED_SINGLY = 20;

/** Returns whether to log the nth event (from 1) of a kind: the first 20, then each time their number has doubled. */
export function shouldLog(count: number): boolean {
  return count <= MAX_LOGGED_SINGLY || (count % MAX_LOGGED_SINGLY === 0 && Number.isInteger(Math.log2(count / MAX_LOGGED_SINGLY)));
}

/** Maximum number of incidents in a list: enough to see where they come from. */
const MAX_LISTED = 10_000;
/** Minimum interval of `writeAtIntervals`: each write writes and flushes the whole list. */
const WRITE_INTERVAL_MS = 5000;

/** The incidents of a run, without duplicates, as a JSON list beside its results. If the list cannot be written, the run continues. */
export class IncidentList<T extends object> {
  readonly path: string;
  readonly #log: Logger;
  /** The incidents as JSON, in the order in which they occurred. */
  readonly #incidents = new Set<string>();
  /** Number of incidents in the file. */
  #written = 0;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #writing = Promise.resolve();
  #failures = 0;
  #isFull = false;

  constructor(path: string, log: Logger) {
    this.path = path;
    this.#log = log;
  }

  get size(): number {
    return this.#incidents.size;
  }

  /** Loads the list of the run that is resumed, or removes that of another run. */
  async start(isResumed: boolean): Promise<void> {
    if (!isResumed) {
      await this.#succeeds(async () => {
        await resolveOutputFile(this.path);
        await rm(this.path, { force: true });
      });
      return;
    }
    for (const incident of await readList(this.path)) this.#incidents.add(JSON.stringify(incident));
    this.#written = this.#incidents.size;
  }

  add(incident: T): void {
    const key = JSON.stringify(incident);
    if (this.#incidents.has(key)) return;
    if (this.#incidents.size >= MAX_LISTED) {
      if (!this.#isFull) this.#log.warn(`${this.path} is full: it lists the first ${MAX_LISTED}`);
      this.#isFull = true;
      return;
    }
    this.#incidents.add(key);
  }

  /** Writes the list if incidents were added since the last write. Can be called while another write is in progress. */
  write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeNow());
    return this.#writing;
  }

  /** Writes the list like `write`, but at most every 5 s. */
  async writeAtIntervals(): Promise<void> {
    if (performance.now() - this.#writtenMs >= WRITE_INTERVAL_MS) await this.write();
  }

  async #writeNow(): Promise<void> {
    const { size } = this.#incidents;
    if (size === this.#written) return;
    this.#writtenMs = performance.now();
    const text = escapeJson(`[\n${[...this.#incidents].join(",\n")}\n]\n`);
    if (await this.#succeeds(() => writeFileAtomic(this.path, text))) this.#written = size;
  }

  /** Returns whether `work` succeeded. Failures are logged, with exponential back-off if there are many. */
  async #succeeds(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.#failures++;
      if (shouldLog(this.#failures)) this.#log.warn(`cannot write the list: ${(error as Error).message}`);
      return false;
    }
  }
}

/** Reads the list of an earlier run; empty if it is missing or invalid. */
async function readList(path: string): Promise<readonly unknown[]> {
  try {
    const list: unknown = JSON.parse((await readInput(path)).toString("utf8"));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
