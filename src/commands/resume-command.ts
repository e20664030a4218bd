import { encodeBytes } from "../base/byte-text.js";
import { escapeText } from "../base/shown-value.js";
import { isShellPipe } from "../data/file-list.js";
import { splitFlag } from "./arguments.js";
import { FLAG_ALIASES, overriddenKeys } from "./flags.js";

/**
 * Returns the shell command that resumes the run started with `args`: without the flags in `dropped`, and with `added` in place of earlier values of the same
 * flags.
 * The content of a pipe is lost, so the command reads the first piped list from standard input and has placeholders for other piped files; a trailing comment
 * explains them. `train` needs no `--config` from a pipe: the snapshot contains the config.
 */
export function resumeCommand(args: readonly string[], added: readonly string[] = ["--resume"], dropped: readonly string[] = []): string {
  const replaced = new Set([...dropped, ...added.filter(isFlag)]);
  const isNamed = (flag: string, names: ReadonlySet<string>): boolean =>
    names.has(flag) || (FLAG_ALIASES[flag] ?? []).some((name) => names.has(name));
  const replacedKeys = new Set([...replaced].flatMap((flag) => overriddenKeys("train", flag)));
  const kept = splitArguments(args).filter(({ flag, key, value }) => {
    if (isNamed(flag, replaced) || (isNamed(flag, SET) && replacedKeys.has(key.slice(0, -1)))) return false;
    return !(args[0] === "train" && isNamed(flag, CONFIG) && isShellPipe(value));
  });
  const lists = kept.filter(({ value, ...argument }) => isList(argument) && isShellPipe(value));
  const placeholders: string[] = [];
  const words = kept.map((argument) => {
    const { written, key, value, isSeparate } = argument;
    let file = value;
    if (isShellPipe(value) && isList(argument) && value === lists[0]?.value) file = "-";
    else if (written !== "" && isShellPipe(value)) {
      file = placeholder(argument);
      placeholders.push(file);
    }
    return isSeparate ? `${quote(written)} ${quote(key + file)}` : quote(written + key + file);
  });
  const notes = [
    ...(lists.length > 0 ? ["pass the same list of shards on standard input"] : []),
    ...(placeholders.length > 0 ? [`replace ${placeholders.join(" and ")} by files with the same content as before`] : []),
  ];
  return ["nextvlad", ...words, ...added.map(quote)].join(" ") + (notes.length > 0 ? `  # ${notes.join("; ")}` : "");
}

const SET: ReadonlySet<string> = new Set(["--set"]);
const CONFIG: ReadonlySet<string> = new Set(["--config"]);

/** A flag with its value, or a positional argument. */
interface Argument {
  /** Name of the flag; empty for a positional argument. */
  readonly flag: string;
  /** Text before the value in the same argument, or the whole flag argument if the value is a separate argument. */
  readonly written: string;
  /** `SECTION.key=` of a value of `--set`, else empty. */
  readonly key: string;
  readonly value: string;
  /** Whether the value is a separate argument. */
  readonly isSeparate: boolean;
}

function splitArguments(args: readonly string[]): readonly Argument[] {
  const found: Argument[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    const { flag, value } = isFlag(arg) ? splitFlag(arg) : { flag: "", value: arg };
    const next = args[i + 1];
    const isSeparate = isFlag(arg) && value === "" && next !== undefined && !isFlag(next);
    if (isSeparate) i++;
    const attached = value.replace(flag === "" ? "" : /^=/, "");
    const text = isSeparate ? next : attached;
    const [key = ""] = (flag === "" ? null : /^[A-Z]+\.\w+=/.exec(text)) ?? [];
    const written = isSeparate ? arg : arg.slice(0, arg.length - attached.length);
    found.push({ flag, written, key, value: text.slice(key.length), isSeparate });
  }
  return found;
}

const isList = ({ flag, key }: Pick<Argument, "flag" | "key">): boolean => flag === "--filelist" || key.endsWith(".filelist=");

/** Returns the placeholder for a piped file: CONFIG for `--config`, VALID_FILELIST for `--set VALID.filelist=`. */
function placeholder({ flag, key }: Argument): string {
  return (key === "" ? flag.replace(/^-+/, "") : key.slice(0, -1)).replaceAll(/[.-]/g, "_").toUpperCase();
}

/** `-` alone is a value: standard input. */
const isFlag = (arg: string): boolean => arg.startsWith("-") && arg !== "-";

/** Quotes a word for a shell. Control and formatting characters become bytes in the form $'\x1B' of Bash and zsh, so that printing the command is safe. */
function quote(word: string): string {
  if (escapeText(word) !== word) return `$'${Array.from(word, quoteCharacter).join("")}'`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function quoteCharacter(character: string): string {
  if (character === "'" || character === "\\") return `\\${character}`;
  if (escapeText(character) === character) return character;
  return Array.from(encodeBytes(character), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}
