import { rm } from "node:fs/promises";
import type { Logger } from "pino";
import { resolveOutputFile, writeFileAtomic } from "../base/files.js";
import { readInput } from "../base/input.js";
import { escapeJson } from "../base/shown-value.js";
import { isWorthTelling } from "./sparing.js";

/** Incidents that a list has at most: enough to see where they come from. */
const LISTED = 10_000;
/** From one write to the next where there is no hurry: each writes the whole list, and flushes it. */
const WRITE_INTERVAL_MS = 5000;

/** What befell a run, as a JSON list beside its results: each incident once, however often it is met. A list that cannot be written ends no run. */
export class IncidentList<T extends object> {
  readonly path: string;
  readonly #log: Logger;
  /** As JSON, in the order in which they came. */
  readonly #incidents = new Set<string>();
  /** How many of them the file has. */
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

  /** Takes over the list of the run that is gone on with (`goesOn`), or removes another run's. */
  async begin(goesOn: boolean): Promise<void> {
    if (!goesOn) {
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
    if (this.#incidents.size >= LISTED) {
      if (!this.#isFull) this.#log.warn(`${this.path} lists ${LISTED} already, and takes no more`);
      this.#isFull = true;
      return;
    }
    this.#incidents.add(key);
  }

  /** Writes what was added since it was last written, if anything was. May be called while another write is under way. */
  write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeNow());
    return this.#writing;
  }

  /** The same, but every few seconds at most. */
  async writeSparingly(): Promise<void> {
    if (performance.now() - this.#writtenMs >= WRITE_INTERVAL_MS) await this.write();
  }

  async #writeNow(): Promise<void> {
    const { size } = this.#incidents;
    if (size === this.#written) return;
    this.#writtenMs = performance.now();
    const text = escapeJson(`[\n${[...this.#incidents].join(",\n")}\n]\n`);
    if (await this.#succeeds(() => writeFileAtomic(this.path, text))) this.#written = size;
  }

  /** Of many failures, some are told. */
  async #succeeds(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.#failures++;
      if (isWorthTelling(this.#failures)) this.#log.warn(`the list could not be written: ${(error as Error).message}`);
      return false;
    }
  }
}

/** What an earlier run listed; nothing where there is no such list, or no whole one. */
async function readList(path: string): Promise<readonly unknown[]> {
  try {
    const list: unknown = JSON.parse((await readInput(path)).toString("utf8"));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
