import { escapeBytes } from "./byte-text.js";
import { boundText, showMessage, showPath, showText } from "./shown-value.js";

/** The error codes, which scripts and tests may rely on; docs/errors.md explains each. See `NextvladError.exitCode` for the process's exit code. */
export const ERROR_CODES = [
  "BAD_USAGE",
  "BAD_CONFIG",
  "NOT_READY",
  "NOT_SET_UP",
  "NO_DEVICE",
  "UNSUPPORTED_CPU",
  "FILE_MISSING",
  "FILE_UNREADABLE",
  "FILE_UNWRITABLE",
  "SAVE_DIR_TAKEN",
  "BAD_FILE_LIST",
  "NOT_TFRECORD",
  "CORRUPT_RECORD",
  "BAD_VIDEO",
  "BAD_LABELS",
  "TOO_FEW_VIDEOS",
  "BAD_FORMAT",
  "UNSAFE_PICKLE",
  "BAD_WEIGHTS",
  "BAD_SNAPSHOT",
  "BAD_RESULTS",
  "NOT_FINITE",
  "OUT_OF_MEMORY",
  "WORKER_DIED",
  "RANK_FAILED",
  "RANKS_DIFFER",
  "KERNEL_FAILED",
  "STOPPED",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What is lost to corrupt bytes in a shard. */
export type CorruptExtent = "record" | "rest of shard";

/**
 * Where an error occurred, what was found and what to do. Each field that is set becomes part of the message, unless noted. Fields hold untrusted text
 * unchanged; the message escapes and shortens it.
 */
export interface ErrorDetails {
  /** The file or shard. */
  readonly file?: string;
  /** The record's index in its shard, from 0. */
  readonly record?: number;
  /** The line number in a text file, from 1. */
  readonly line?: number;
  /** Offset in the (uncompressed) file, in bytes. */
  readonly byteOffset?: number;
  /** The video's ID, as `decodeBytes` returns it. */
  readonly video?: string;
  /** The config key (`TRAIN.batch_size`) or the flag (`--batch-size`). */
  readonly key?: string;
  /** The parameter's name in Paddle. */
  readonly parameter?: string;
  readonly expected?: string | number;
  readonly found?: string | number;
  /** What the user can do about it: a clause without capital or period. */
  readonly remedy?: string;
  /** For a problem that occurs in several places: the first of them and the number of others, formatted. */
  readonly places?: string;
  /** The messages of several problems that this error lists. */
  readonly problems?: readonly string[];
  /** What is lost to corrupt bytes in a shard: this record or the rest of the shard. Unset for all other errors. Not in the message, but in the JSON log. */
  readonly damaged?: CorruptExtent;
  /** The process's exit code, if it differs from that of the error's code. Not in the message. */
  readonly exitCode?: number;
  /** Lines like "resume with: nextvlad train ...". The CLI prints each on its own line without a period, for copying. Not in the message. */
  readonly commands?: readonly string[];
}

const USAGE_CODES: ReadonlySet<ErrorCode> = new Set(["BAD_USAGE", "BAD_CONFIG"]);

/**
 * An error for the user: a stable code, what is wrong, where, and a remedy. `message` is one line for logs and lists, with the location first, as compilers
 * print it: `a.tfrecord, record 3: the checksum does not match (expected 1, found 2). Download it again.` For the layout of the CLI see `formatError`.
 */
export class NextvladError extends Error {
  override readonly name = "NextvladError";
  readonly code: ErrorCode;
  readonly what: string;
  readonly details: ErrorDetails;

  /** `what` is a clause without capital or period: "the checksum of the data does not match". */
  constructor(code: ErrorCode, what: string, details: ErrorDetails = {}, cause?: unknown) {
    super(showMessage(describe(what, details)), cause === undefined ? undefined : { cause });
    this.code = code;
    this.what = what;
    this.details = details;
  }

  /** The process's exit code: `details.exitCode` if set (for STOPPED, 128 + the signal's number), else 2 for BAD_USAGE and BAD_CONFIG, else 1. */
  get exitCode(): number {
    return this.details.exitCode ?? (USAGE_CODES.has(this.code) ? 2 : 1);
  }
}

function describe(what: string, d: ErrorDetails): string {
  const place = describePlace(d);
  const list = d.places ?? d.problems?.map((problem, i) => `(${i + 1}) ${problem}`).join(" ") ?? "";
  const text = `${place === "" ? "" : `${place}: `}${describeProblem(what, d)}${list === "" ? "" : `: ${list}`}`;
  return d.remedy === undefined ? closeSentence(text) : `${closeSentence(text)} ${closeSentence(capitalize(d.remedy))}`;
}

/** Formats what is wrong with the values: "invalid value (expected 3, found 4)". */
function describeProblem(what: string, d: ErrorDetails): string {
  const values = describeValues(d);
  return values === "" ? what : `${what} (${values})`;
}

/** Adds a period, unless the text ends with one or with a question mark. */
function closeSentence(text: string): string {
  return /[.?]$/.test(text) ? text : `${text}.`;
}

/** Maximum number of problems that `formatError` lists. */
const MAX_PROBLEMS = 20;

/**
 * Formats an error for people, one string per line: what is wrong, with its code; where; the problems that it lists; what to do. The text is escaped and
 * bounded.
 *
 *     error[CORRUPT_RECORD]: the checksum does not match (expected 1, found 2)
 *       --> a.tfrecord, record 3, byte 12
 *       help: download the shard again
 */
export function formatError({ code, what, details }: NextvladError): readonly string[] {
  const { places = "", problems = [], remedy } = details;
  const place = [describePlace(details), showMessage(places)].filter((part) => part !== "").join(": ");
  const lead = code === "STOPPED" ? "note" : `error[${code}]`;
  return [
    `${lead}: ${showMessage(describeProblem(what, details))}`,
    ...(place === "" ? [] : [`  --> ${place}`]),
    ...problems.slice(0, MAX_PROBLEMS).map((problem, i) => `  ${i + 1}. ${showMessage(problem)}`),
    ...(problems.length > MAX_PROBLEMS ? [`  and ${problems.length - MAX_PROBLEMS} more`] : []),
    ...(remedy === undefined ? [] : [`  help: ${showMessage(remedy)}`]),
  ];
}

// More than for other values: a key may include a suggestion, and `expected` or `found` may be a list of names.
const [MAX_KEY_LENGTH, MAX_FOUND_LENGTH] = [160, 400];

/** Formats the location, like "a.tfrecord, record 3, byte 12"; empty if there is none. */
export function describePlace(d: ErrorDetails): string {
  const parts = [
    d.file === undefined ? undefined : showPath(d.file),
    d.record === undefined ? undefined : `record ${d.record}`,
    d.line === undefined ? undefined : `line ${d.line}`,
    d.byteOffset === undefined ? undefined : `byte ${d.byteOffset}`,
    d.video === undefined ? undefined : `video ${showText(escapeBytes(d.video))}`,
    d.key === undefined ? undefined : showText(d.key, MAX_KEY_LENGTH),
    d.parameter === undefined ? undefined : `parameter ${showText(d.parameter)}`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

/** Formats "expected 3, found 4"; empty if neither is set. */
export function describeValues(d: ErrorDetails): string {
  const parts = [
    d.expected === undefined ? undefined : `expected ${showText(String(d.expected), MAX_FOUND_LENGTH)}`,
    d.found === undefined ? undefined : `found ${showText(String(d.found), MAX_FOUND_LENGTH)}`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

function capitalize(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

/** A `NextvladError` as plain data, for messages between threads. */
export interface SerializedError {
  readonly code: ErrorCode;
  readonly what: string;
  readonly details: ErrorDetails;
}

/**
 * Converts an error to plain data for `postMessage` and for lists of problems, and shortens long text, as a list may hold many. An error that is not a
 * `NextvladError` becomes `WORKER_DIED` with its stack or message.
 */
export function serializeError(error: unknown): SerializedError {
  if (error instanceof NextvladError) return { code: error.code, what: error.what, details: boundDetails(error.details) };
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: "WORKER_DIED", what, details: {} };
}

function boundDetails(details: ErrorDetails): ErrorDetails {
  const { video, key, parameter, expected, found } = details;
  const texts = Object.entries({ video, key, parameter, expected, found }).filter(([, text]) => typeof text === "string");
  return { ...details, ...Object.fromEntries(texts.map(([name, text]) => [name, boundText(String(text))])) };
}

/** The inverse of `serializeError`. */
export function deserializeError(error: SerializedError): NextvladError {
  return new NextvladError(error.code, error.what, error.details);
}

/** Remedy for EMFILE. */
export const RAISE_OPEN_FILES = "raise the limit of open files: ulimit -n 4096";

/** Converts the error of a failed system call to a `NextvladError` that names the file and the cause: "file not found", "permission denied". */
export function fileError(error: unknown, file: string, doing: "read" | "write"): NextvladError {
  if (error instanceof NextvladError) return error;
  const errno = (error as NodeJS.ErrnoException).code ?? "";
  if (errno === "ENOENT" && doing === "read") {
    return new NextvladError("FILE_MISSING", "file not found", { file, remedy: "check the path" }, error);
  }
  const words: Record<string, string> = {
    ENOENT: "the directory does not exist",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    ENOSPC: "no space left on the device",
    EDQUOT: "disk quota exceeded",
    EISDIR: "it is a directory",
    EEXIST: "the file exists",
    EPIPE: "the reader has exited",
    ENOTDIR: "part of the path is not a directory",
    EMFILE: "too many open files",
    ENFILE: "too many open files on this machine",
    ELOOP: "its symbolic links form a cycle",
    ENAMETOOLONG: "the name is too long",
    EIO: "input/output error of the device",
    ESPIPE: "it is a pipe or device, which cannot seek",
  };
  const cause = words[errno] ?? (error instanceof Error ? error.message : String(error));
  const code = doing === "read" ? "FILE_UNREADABLE" : "FILE_UNWRITABLE";
  const isFull = errno === "ENOSPC" || errno === "EDQUOT";
  const writable = isFull ? "free disk space, or use another directory" : "use another directory, or make this one writable";
  const isAtLimit = errno === "EMFILE" || errno === "ENFILE";
  const remedy = isAtLimit ? RAISE_OPEN_FILES : doing === "read" ? "check the file and its permissions" : writable;
  return new NextvladError(code, `cannot ${doing}: ${cause}`, { file, remedy }, error);
}
