import { closeSync, constants as FLAGS, fstatSync, lstatSync, openSync, rmSync, type Stats, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { type DestinationStream, type Logger, levels, multistream, pino } from "pino";
import { prettyFactory } from "pino-pretty";
import { fileError, NextvladError } from "../base/errors.js";
import { describeKind } from "../base/output-checks.js";
import { escapeJson, escapeText, MAX_MESSAGE_LENGTH, showText } from "../base/shown-value.js";
import { DEFAULT_COLUMNS, wrapLine } from "../base/wrap.js";
import { createScreen, isDumb, type Progress, type Screen } from "./progress.js";

/** The output of a command: the log (a JSON file and readable lines on stderr) and the progress bar. */
export interface Telemetry {
  readonly log: Logger;
  readonly progress: Progress;
  /**
   * Ends the bar and closes the log. A `failure` is first written to the file, with its stack; the CLI prints it to stderr.
   * A new log is removed if the command failed with a NextvladError before the first progress: stderr then has everything.
   */
  close(failure?: unknown): Promise<void>;
}

/** The log file, and the stream for readable lines. */
export interface TelemetryOptions {
  /** Appended to, or created in an existing directory; null for no file. */
  readonly logFile: string | null;
  /** The process's stderr by default. */
  readonly stderr?: NodeJS.WriteStream;
  /** Whether the screen shows only warnings and errors, and no progress; the file has everything. */
  readonly quiet?: boolean;
  /** Whether the screen and the file also show details, of the level "debug". */
  readonly verbose?: boolean;
}

/**
 * Opens the log. Throws FILE_UNWRITABLE, also if the log is not a regular file (a link, for example). Colors are used only on a terminal, and not with NO_COLOR
 * or TERM=dumb.
 */
export async function createTelemetry({
  logFile,
  stderr = process.stderr,
  quiet = false,
  verbose = false,
}: TelemetryOptions): Promise<Telemetry> {
  const screen = createScreen(stderr, quiet);
  const file = logFile === null ? null : new LogFile(logFile, screen);
  const readable = readableLines(screen, stderr);
  const level = verbose ? "debug" : "info";
  const shown = { stream: readable, level: quiet ? "warn" : level } as const;
  const streams = file === null ? [shown] : [shown, { stream: file, level } as const];
  let hasProgress = false;
  const options = { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  // With a listener, a failed write does not end the process.
  let hasFailed = false;
  const onWriteError = (error: unknown): void => {
    if (!hasFailed && file !== null)
      pino(options, file).warn(`lines may be missing on the terminal: ${fileError(error, "standard error", "write").message}`);
    hasFailed = true;
  };
  stderr.on("error", onWriteError);
  return {
    log: pino(options, multistream(streams)),
    progress: {
      start: (title) => screen.start(escapeText(title)),
      update(state) {
        hasProgress = true;
        screen.update(state);
      },
      end: () => screen.end(),
    },
    async close(failure) {
      screen.end();
      // The error event of a failed write is emitted in the next iteration of the event loop.
      await setImmediate();
      stderr.off("error", onWriteError);
      if (file === null) return;
      if (failure !== undefined) logFailure(pino(options, file), failure);
      file.close();
      if (failure instanceof NextvladError && !hasProgress && file.isNew) file.remove();
    },
  };
}

/**
 * Writes log lines to a file, each before the call returns. The JSON represents all text exactly and is safe to print. If a write fails (a full disk, for
 * example), the log ends, but the command continues.
 */
class LogFile implements DestinationStream {
  readonly #path: string;
  readonly #screen: Screen;
  readonly isNew: boolean;
  #handle: number | null;

  constructor(path: string, screen: Screen) {
    this.#path = path;
    this.#screen = screen;
    try {
      // Do not follow links, and do not block on a pipe, with or without a reader.
      this.#handle = openSync(path, FLAGS.O_WRONLY | FLAGS.O_APPEND | FLAGS.O_CREAT | FLAGS.O_NOFOLLOW | FLAGS.O_NONBLOCK | FLAGS.O_NOCTTY);
      const found = fstatSync(this.#handle);
      if (!found.isFile()) {
        this.close();
        throw notRegular(path, found);
      }
      this.isNew = found.size === 0;
    } catch (error) {
      const found = lstatSync(path, { throwIfNoEntry: false });
      throw found === undefined || found.isFile() ? fileError(error, path, "write") : notRegular(path, found);
    }
  }

  write(line: string): void {
    if (this.#handle === null) return;
    try {
      writeSync(this.#handle, escapeJson(line));
    } catch (error) {
      this.close();
      this.#screen.print(`warning: the log file ends here: ${fileError(error, this.#path, "write").message}\n`);
    }
  }

  /** Never throws: a log that cannot be removed is kept. */
  remove(): void {
    try {
      rmSync(this.#path);
    } catch {}
  }

  close(): void {
    if (this.#handle !== null) closeSync(this.#handle);
    this.#handle = null;
  }
}

function notRegular(file: string, found: Stats): NextvladError {
  const remedy = "remove it, or use another directory";
  const what = "cannot write the log: not a regular file";
  return new NextvladError("FILE_UNWRITABLE", what, { file, found: describeKind(found), remedy });
}

/** Formats the message of each entry as a line on the screen, wrapped on a terminal; control characters are escaped. */
function readableLines(screen: Screen, stderr: NodeJS.WriteStream): DestinationStream {
  const colorize = stderr.isTTY === true && (process.env.NO_COLOR ?? "") === "" && !isDumb();
  const pretty = prettyFactory({
    colorize,
    ignore: "pid",
    translateTime: "SYS:HH:MM:ss",
    singleLine: true,
    hideObject: true,
    messageFormat: (entry, key) => {
      const message = showText(String(entry[key] ?? ""), MAX_MESSAGE_LENGTH);
      if (stderr.isTTY !== true) return message;
      const head = `[00:00:00] ${levels.labels[Number(entry.level)]?.toUpperCase()}: `;
      return wrapLine(head + message, stderr.columns || DEFAULT_COLUMNS)
        .join("\n")
        .slice(head.length);
    },
  });
  return { write: (line: string) => screen.print(`${pretty(line).trimEnd()}\n`) };
}

function logFailure(log: Logger, failure: unknown): void {
  const facts = failure instanceof NextvladError ? { code: failure.code, details: failure.details } : {};
  log.fatal({ ...facts, err: failure }, failure instanceof Error ? failure.message : String(failure));
}
