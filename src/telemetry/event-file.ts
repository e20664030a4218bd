import { closeSync, openSync, readdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { fileError } from "../base/errors.js";
import { encodeTfRecord } from "../formats/containers/tfrecord.js";
import { encodeEvent, fileVersion, sessionStart, summary, textValue } from "../formats/protobuf/event.js";
import type { Message } from "../formats/protobuf/writer.js";

export interface EventFileOptions {
  /** An existing directory; TensorBoard takes all event files in it for those of one run. */
  readonly directory: string;
  /** The step at which this process starts. */
  readonly firstStep: number;
  /** The run's config. */
  readonly configYaml: string;
  readonly log: Logger;
}

/**
 * The events of this process for TensorBoard, in a file of their own, which is created with the first of them. They are written before `write` returns. If a
 * write fails (a full disk, for example), the file ends with a warning in the log, but the command continues.
 */
export class EventFile {
  readonly #options: EventFileOptions;
  /** The file; before it is created, its directory. */
  #path: string;
  /** Undefined before the first event; null after the last one. */
  #handle: number | null | undefined;

  constructor(options: EventFileOptions) {
    this.#options = options;
    this.#path = options.directory;
  }

  /** Writes an event with the values of a step. */
  write(step: number, values: readonly Message[]): void {
    const { directory, firstStep, configYaml, log } = this.#options;
    const contents: [number, Message][] = [[step, summary(values)]];
    try {
      if (this.#handle === undefined) {
        this.#path = join(directory, nameAfterOthers(directory));
        // Creates the file, and does not follow links.
        this.#handle = openSync(this.#path, "ax");
        contents.unshift([0, fileVersion()], [firstStep, sessionStart()], [firstStep, summary([textValue("config", asCode(configYaml))])]);
      }
      if (this.#handle === null) return;
      const seconds = Date.now() / 1000;
      const events = contents.map(([at, content]) => encodeTfRecord(encodeEvent({ seconds, step: at }, content)));
      writeFileSync(this.#handle, Buffer.concat(events));
    } catch (error) {
      this.close();
      log.warn(`the events for TensorBoard end here: ${fileError(error, this.#path, "write").message}`);
    }
  }

  close(): void {
    if (typeof this.#handle === "number") closeSync(this.#handle);
    this.#handle = null;
  }
}

/**
 * Returns the name of a new event file, which sorts after those in the directory: TensorBoard reads them in the order of their names. Its time is later than the
 * clock if a run is resumed in the second in which it stopped, or after the clock was set back.
 */
function nameAfterOthers(directory: string): string {
  const times = readdirSync(directory).map((name) => Number(/^events\.out\.tfevents\.(\d+)\./.exec(name)?.[1] ?? 0));
  const seconds = Math.max(Math.floor(Date.now() / 1000), ...times.map((time) => time + 1));
  return `events.out.tfevents.${seconds}.${hostname().replaceAll(/[^\w.-]/g, "_")}.${process.pid}`;
}

/** Returns a text as a block of code in Markdown. */
function asCode(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "    ");
}
