import type { Workplace } from "./workplace.js";

/** What is attacked: the input of a command, or its surroundings. */
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
  /** From the start of the command, or from the output that `when` matches. */
  readonly afterMs: number;
  readonly when?: RegExp;
}

/** One hostile input or environment, and the command that meets it. Its working directory is a folder of its own. */
export interface Attempt {
  readonly kind: Kind;
  /** What is hostile; unique within the kind. */
  readonly name: string;
  /** Writes the inputs. */
  readonly prepare?: (place: Workplace) => void | Promise<void>;
  /** Arguments of nextvlad. Paths are relative to the attempt's folder; `base.ts` names the harmless inputs. */
  readonly args: readonly string[];
  /** Changes to the environment; undefined removes a variable. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A bash command around nextvlad, which is `"$@"` in it. */
  readonly shell?: string;
  readonly stdin?: string | Uint8Array;
  readonly signals?: readonly SentSignal[];
  /** The ends that are right; `ANY_EXIT` where left out. */
  readonly exits?: readonly ExitStatus[];
  /** Files and folders that the command may change; `out` where left out. */
  readonly targets?: readonly string[];
  /** Files in a target that it may not change all the same. */
  readonly keeps?: readonly string[];
  /** The command may wait for ever, but has to say so within seconds. */
  readonly mayWait?: true;
  /** Node itself may die in this environment: then no end is wrong. */
  readonly mayKillNode?: true;
  /** What the machine must allow: mounts, or device nodes. */
  readonly needs?: "mount" | "mknod";
  /** `prepare` copies parts of the model; that `args` name it is seen anyway. */
  readonly usesModel?: true;
  /** Takes seconds of computing: not in the sample for CI. */
  readonly isSlow?: true;
}

/** Done, failed, or bad usage: all that a command may answer to a hostile input. */
export const ANY_EXIT: readonly ExitStatus[] = [0, 1, 2];
export const DONE: readonly ExitStatus[] = [0];
export const REFUSED: readonly ExitStatus[] = [1, 2];
export const BAD_USAGE: readonly ExitStatus[] = [2];

/** An attempt as text: `tfrecord: empty file: verify`. */
export function titleOf({ kind, name }: Attempt): string {
  return `${kind}: ${name}`;
}

/** The command as a shell takes it, with control characters escaped, for a reader. */
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

/** More of an argument is not shown. */
const MAX_ARGUMENT_LENGTH = 300;

function quote(text: string): string {
  const shown = text.length > MAX_ARGUMENT_LENGTH ? `${text.slice(0, 40)}...(${text.length} characters)` : text;
  if (/^[\w./:=,@%+-]+$/.test(shown)) return shown;
  if (!HAS_CONTROL.test(shown)) return `'${shown.replaceAll("'", "'\\''")}'`;
  return `$'${shown.replace(/[\\']/g, "\\$&").replace(new RegExp(HAS_CONTROL, "gu"), (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
}

const HAS_CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
