import type { Logger } from "pino";
import { histogramValue, scalarValue } from "../formats/protobuf/event.js";
import type { EventFile } from "./event-file.js";
import { histogramOf } from "./histogram.js";

/**
 * The curves of a run, by names of the form `group/name`, such as `train/loss`. The log, the progress bar and TensorBoard have their values from here: a new
 * curve is one call of `scalar`.
 */
export class Scalars {
  readonly #log: Logger;
  readonly #events: EventFile;
  readonly #latest = new Map<string, number>();
  #added: { readonly step: number; readonly name: string; readonly value: number }[] = [];

  /** Takes ownership of `events`. */
  constructor(log: Logger, events: EventFile) {
    this.#log = log;
    this.#events = events;
  }

  /** Adds a point to a curve; `flush` writes it. */
  scalar(step: number, name: string, value: number): void {
    this.#added.push({ step, name, value });
    this.#latest.set(name, value);
  }

  /** Returns the value that was added to a curve last, for the progress bar. */
  latest(name: string): number | undefined {
    return this.#latest.get(name);
  }

  /** Returns the values that were added last to the curves of a group, by their names in it. */
  latestOf(group: string): Readonly<Record<string, number>> {
    const prefix = `${group}/`;
    const own = [...this.#latest].filter(([name]) => name.startsWith(prefix));
    return Object.fromEntries(own.map(([name, value]) => [name.slice(prefix.length), value]));
  }

  /**
   * Writes what was added since the last call: to the events, and to the log as fields of one entry with these facts and message. The names of `group` are
   * fields without `group/`.
   */
  flush(group: string, facts: Readonly<Record<string, unknown>>, message: string): void {
    const added = this.#added;
    this.#added = [];
    const prefix = `${group}/`;
    const fields = added.map(({ name, value }) => [name.startsWith(prefix) ? name.slice(prefix.length) : name, value]);
    this.#log.info({ ...facts, ...Object.fromEntries(fields) }, message);
    for (const step of new Set(added.map((point) => point.step))) {
      const points = added.filter((point) => point.step === step);
      this.#events.write(
        step,
        points.map(({ name, value }) => scalarValue(name, value)),
      );
    }
  }

  /** Writes a histogram of the finite values, if there are any, to the events. */
  histogram(step: number, name: string, values: Float32Array): void {
    const histogram = histogramOf(values);
    if (histogram !== null) this.#events.write(step, [histogramValue(name, histogram)]);
  }

  close(): void {
    this.#events.close();
  }
}
