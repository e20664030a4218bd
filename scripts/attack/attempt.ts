import type { Workplace } from "./workplace.js";

/** What an attempt attacks: a command's input or its environment. */
export const KINDS = [
  "tfrecord",
  "pickle",
  "features",
  "weights",
  "config",
  "list",
  "results",
  "snapshot",
  "output",
  "disk",
  "limit",
  "stream",
  "signal",
  "environment",
  "flag",
  "mutation",
] as const;

export type Kind = (typeof KINDS)[number];

/** How a process ended: its exit code, or the signal that killed it. */
export type ExitStatus = number | NodeJS.Signals;

/** A signal to send while the command runs. */
export interface SentSignal {
  readonly name: NodeJS.Signals;
  /** Delay after the start of the command, or after the first output that matches `when`. */
  readonly afterMs: number;
  readonly when?: RegExp;
}

/** One hostile input or environment, and the command to run on it. Each attempt has its own working directory. */
export interface Attempt {
  readonly kind: Kind;
  /** What is hostile; unique within the kind. */
  readonly name: string;
  /** Writes the inputs. */
  readonly prepare?: (place: Workplace) => void | Promise<void>;
  /** Arguments of nextvlad. Paths are relative to the attempt's directory; `base.ts` names the harmless inputs. */
  readonly args: readonly string[];
  /** Changes to the environment; undefined removes a variable. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A bash command that wraps nextvlad; `"$@"` stands for the nextvlad command. */
  readonly shell?: string;
  readonly stdin?: string | Uint8Array;
  readonly signals?: readonly SentSignal[];
  /** Expected exit codes and signals; `ANY_EXIT` by default. */
  readonly exits?: readonly ExitStatus[];
  /** Files and directories that the command may change; `out` by default. */
  readonly targets?: readonly string[];
  /** Files inside a target that the command must not change. */
  readonly keeps?: readonly string[];
  /** The command may wait indefinitely, but must print a message within `LIMITS.firstOutputSeconds`. */
  readonly mayWait?: true;
  /** Node itself may fail in this environment; any exit is accepted then. */
  readonly mayKillNode?: true;
  /** Privilege that the attempt requires: mounting file systems or creating device nodes. */
  readonly needs?: "mount" | "mknod";
  /** `prepare` copies parts of the model. Not needed if the command itself names the model. */
  readonly usesModel?: true;
  /** Takes seconds to compute; excluded from the CI sample. */
  readonly isSlow?: true;
}

/** Success, failure or bad usage: the only exit codes allowed for a hostile input. */
export const ANY_EXIT: readonly ExitStatus[] = [0, 1, 2];
export const DONE: readonly ExitStatus[] = [0];
export const REFUSED: readonly ExitStatus[] = [1, 2];
export const BAD_USAGE: readonly ExitStatus[] = [2];

/** Returns an attempt's title, such as `tfrecord: empty file: verify`. */
export function titleOf({ kind, name }: Attempt): string {
  return `${kind}: ${name}`;
}

/** Formats the command in shell syntax, with control characters escaped. For display; long arguments are shortened. */
export function describeCommand({ args, environment = {}, shell, signals = [] }: Attempt): string {
  const changes = Object.entries(environment).map(([name, value]) => (value === undefined ? `-u ${name}` : `${name}=${quote(value)}`));
  const plain = ["nextvlad", ...args.map(quote)].join(" ");
  const wrapped = shell === undefined ? plain : shell.replace(/(exec )?"\$@"/, () => plain);
  const sent = signals.map(
    ({ name, afterMs, when }) => `${name} ${afterMs} ms after ${when === undefined ? "the start" : `"${when.source}"`}`,
  );
  return [
    ...(changes.length === 0 ? [] : ["env", ...changes]),
    wrapped,
    ...(sent.length === 0 ? [] : [`  # ${sent.join(", then ")}`]),
  ].join(" ");
}

/** Longer arguments are shortened when displayed. */
const MAX_ARGUMENT_LENGTH = 300;

function quote(text: string): string {
  const shown = text.length > MAX_ARGUMENT_LENGTH ? `${text.slice(0, 40)}...(${text.length} characters)` : text;
  if (/^[\w./:=,@%+-]+$/.test(shown)) return shown;
  if (!HAS_CONTROL.test(shown)) return `'${shown.replaceAll("'", "'\\''")}'`;
  return `$'${shown.replace(/[\\']/g, "\\$&").replace(new RegExp(HAS_CONTROL, "gu"), (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
}

const HAS_CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
