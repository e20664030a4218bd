import { readFile, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { writeFileAtomic } from "../base/files.js";

/** Incidents that a list has at most: enough to see where they come from. */
const LISTED = 10_000;

/** What befell a run, as a JSON list beside its results: each incident once, however often it is met. A list that cannot be written ends no run. */
export class IncidentList<T extends object> {
  readonly path: string;
  readonly #log: Logger;
  /** By their JSON, in the order in which they came. */
  readonly #incidents = new Map<string, T>();
  #isWritten = true;
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
    if (!goesOn) return this.#orWarn(() => rm(this.path, { force: true }));
    for (const incident of await readList<T>(this.path)) this.#incidents.set(JSON.stringify(incident), incident);
  }

  add(incident: T): void {
    const key = JSON.stringify(incident);
    if (this.#incidents.has(key)) return;
    if (this.#incidents.size >= LISTED) {
      if (!this.#isFull) this.#log.warn(`${this.path} lists ${LISTED} already, and takes no more`);
      this.#isFull = true;
      return;
    }
    this.#incidents.set(key, incident);
    this.#isWritten = false;
  }

  /** Writes what was added since it was last written. */
  async write(): Promise<void> {
    if (this.#isWritten) return;
    await this.#orWarn(() => writeFileAtomic(this.path, `[\n${[...this.#incidents.keys()].join(",\n")}\n]\n`));
    this.#isWritten = true;
  }

  async #orWarn(work: () => Promise<void>): Promise<void> {
    await work().catch((error: Error) => this.#log.warn(`the list could not be written: ${error.message}`));
  }
}

/** What an earlier run listed; nothing where there is no such list, or no whole one. */
async function readList<T>(path: string): Promise<readonly T[]> {
  try {
    const list: unknown = JSON.parse(await readFile(path, "utf8"));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
