import { encodeBytes } from "../base/byte-text.js";
import { escapeText } from "../base/shown-value.js";
import { isShellPipe } from "../data/file-list.js";
import type { LogInterval } from "../evaluation/watched-batches.js";
import type { ResumeOptions } from "../results/resumable-results.js";
import { FLAG_ALIASES, splitFlag } from "./arguments.js";
import type { ConfigFlags, ResumeFlags } from "./options.js";
import type { Run } from "./run.js";

/** What is done is saved so often where nobody says otherwise: a killed run loses this much. */
const SAVE_INTERVAL_MS = 10_000;
const LOG_INTERVAL_MS = 10_000;

/** How often `eval` and `infer` log: as --log-interval says, else every 10 s. */
export function logInterval({ logInterval: steps }: ConfigFlags): LogInterval {
  return steps === undefined ? { ms: LOG_INTERVAL_MS } : { steps };
}

/** How `eval` and `infer` keep what is done, as their flags say. */
export function resumeOptions(flags: ResumeFlags, { onSaveRequest }: Run): ResumeOptions {
  // Asked for at once, as an unheard SIGUSR1 opens a debugger's port.
  let save = (): void => undefined;
  onSaveRequest(() => save());
  return {
    resume: flags.resume ?? false,
    saveInterval: flags.saveInterval ?? { ms: SAVE_INTERVAL_MS },
    resumeCommand: resumeCommand(process.argv.slice(2)),
    onSaveRequest: (now) => {
      save = now;
    },
  };
}

/** Config keys that a flag sets; `--set` of the same key would win over the flag. */
const KEY_OF_FLAG: Readonly<Record<string, string>> = { "--on-corrupt": "TRAIN.on_corrupt" };

/**
 * The shell command that resumes what a command line (its arguments) started: without the flags in `dropped`, and with `added` in the place of those given
 * before. The content of a pipe is gone: the command reads the first list that came through one from standard input, has placeholders for other files, and
 * says so. `train` needs no `--config` from a pipe: the snapshot has the config.
 */
export function resumeCommand(args: readonly string[], added: readonly string[] = ["--resume"], dropped: readonly string[] = []): string {
  const gone = new Set([...dropped, ...added.filter(isFlag)]);
  const isNamed = (flag: string, names: ReadonlySet<string>): boolean =>
    names.has(flag) || (FLAG_ALIASES[flag] ?? []).some((name) => names.has(name));
  const goneKeys = new Set([...gone].flatMap((flag) => KEY_OF_FLAG[flag] ?? []));
  const kept = splitArguments(args).filter(({ flag, key, value }) => {
    if (isNamed(flag, gone) || (isNamed(flag, SET) && goneKeys.has(key.slice(0, -1)))) return false;
    return !(args[0] === "train" && isNamed(flag, CONFIG) && isShellPipe(value));
  });
  const lists = kept.filter(({ value, ...argument }) => isList(argument) && isShellPipe(value));
  const placeholders: string[] = [];
  const words = kept.map((argument) => {
    const { written, key, value, isApart } = argument;
    let file = value;
    if (isShellPipe(value) && isList(argument) && value === lists[0]?.value) file = "-";
    else if (written !== "" && isShellPipe(value)) {
      file = placeholder(argument);
      placeholders.push(file);
    }
    return isApart ? `${quote(written)} ${quote(key + file)}` : quote(written + key + file);
  });
  const notes = [
    ...(lists.length > 0 ? ["give the same list of shards on standard input"] : []),
    ...(placeholders.length > 0 ? [`replace ${placeholders.join(" and ")} by files with the same content as before`] : []),
  ];
  return ["nextvlad", ...words, ...added.map(quote)].join(" ") + (notes.length > 0 ? `  # ${notes.join("; ")}` : "");
}

const SET: ReadonlySet<string> = new Set(["--set"]);
const CONFIG: ReadonlySet<string> = new Set(["--config"]);

/** A flag with its value, or an argument that belongs to no flag. */
interface Argument {
  /** The name of the flag; empty for an argument of no flag. */
  readonly flag: string;
  /** What stands before the value in the same argument, or the whole argument if the value is the next one. */
  readonly written: string;
  /** `SECTION.key=` of a value of `--set`, else empty. */
  readonly key: string;
  readonly value: string;
  /** Whether the value is an argument of its own. */
  readonly isApart: boolean;
}

function splitArguments(args: readonly string[]): readonly Argument[] {
  const found: Argument[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    const { flag, value } = isFlag(arg) ? splitFlag(arg) : { flag: "", value: arg };
    const next = args[i + 1];
    const isApart = isFlag(arg) && value === "" && next !== undefined && !isFlag(next);
    if (isApart) i++;
    const attached = value.replace(flag === "" ? "" : /^=/, "");
    const text = isApart ? next : attached;
    const [key = ""] = (flag === "" ? null : /^[A-Z]+\.\w+=/.exec(text)) ?? [];
    const written = isApart ? arg : arg.slice(0, arg.length - attached.length);
    found.push({ flag, written, key, value: text.slice(key.length), isApart });
  }
  return found;
}

const isList = ({ flag, key }: Pick<Argument, "flag" | "key">): boolean => flag === "--filelist" || key.endsWith(".filelist=");

/** The word that stands for a file: CONFIG of `--config`, VALID_FILELIST of `--set VALID.filelist=`. */
function placeholder({ flag, key }: Argument): string {
  return (key === "" ? flag.replace(/^-+/, "") : key.slice(0, -1)).replaceAll(/[.-]/g, "_").toUpperCase();
}

/** `-` alone is a value: standard input. */
const isFlag = (arg: string): boolean => arg.startsWith("-") && arg !== "-";

/** A word for a shell. Text that a terminal would act on becomes bytes in Bash's (and zsh's) form $'\x1B', so that the command can be shown and copied. */
function quote(word: string): string {
  if (escapeText(word) !== word) return `$'${Array.from(word, quoteCharacter).join("")}'`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function quoteCharacter(character: string): string {
  if (character === "'" || character === "\\") return `\\${character}`;
  if (escapeText(character) === character) return character;
  return Array.from(encodeBytes(character), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}

/** The last lines of a pass that a signal stopped: where it stands, and how to resume it. `keptIn`: null where nothing is done yet. */
export function tellStop(title: string, videos: number, keptIn: string | null): readonly string[] {
  if (keptIn === null) return [`${title} stopped after ${videos} videos: nothing to keep`];
  return [`${title} stopped after ${videos} videos, which are kept in ${keptIn}`, `resume with: ${resumeCommand(process.argv.slice(2))}`];
}
