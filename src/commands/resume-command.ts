import { quoteForShell } from "../base/shell.js";
import { isShellPipe } from "../data/file-list.js";
import { splitFlag } from "./arguments.js";
import { overriddenKeys } from "./flags.js";

/**
 * Returns the shell command that resumes the run started with `args`, whose aliases are resolved: without the flags in `dropped`, and with `added` in place of
 * earlier values of the same flags.
 * The content of a pipe is lost, so the command reads the first piped list from standard input and has placeholders for other piped files; a trailing comment
 * explains them. `train` needs no `--config` from a pipe: the snapshot contains the config.
 */
export function resumeCommand(args: readonly string[], added: readonly string[] = ["--resume"], dropped: readonly string[] = []): string {
  const replaced = new Set([...dropped, ...added.filter((arg) => arg.startsWith("--"))]);
  const replacedKeys = new Set([...replaced].flatMap((flag) => overriddenKeys("train", flag)));
  let list: string | undefined;
  const placeholders: string[] = [];
  const withoutPipe = (name: string, value: string): string => {
    const { key, file } = splitValue(name, value);
    if (!isShellPipe(file)) return value;
    const before = value.slice(0, value.length - file.length);
    if (/(^|\.)filelist$/.test(key)) {
      list ??= file;
      if (file === list) return `${before}-`;
    }
    const placeholder = key.replaceAll(/[.-]/g, "_").toUpperCase();
    placeholders.push(placeholder);
    return before + placeholder;
  };
  const words = args.slice(0, 1);
  for (const { name, values } of splitFlags(args.slice(1))) {
    const { key, file } = splitValue(name, values[0] ?? "");
    if (replaced.has(name) || replacedKeys.has(key) || (args[0] === "train" && name === "--config" && isShellPipe(file))) continue;
    words.push(name, ...values.map((value) => withoutPipe(name, value)));
  }
  const notes = [
    ...(list === undefined ? [] : ["pass the same list of shards on standard input"]),
    ...(placeholders.length > 0 ? [`replace ${placeholders.join(" and ")} by files with the same content as before`] : []),
  ];
  return ["nextvlad", ...[...words, ...added].map(quoteForShell)].join(" ") + (notes.length > 0 ? `  # ${notes.join("; ")}` : "");
}

/** Returns arguments, whose aliases are resolved, without some flags and their values. */
export function withoutFlags(args: readonly string[], dropped: readonly string[]): readonly string[] {
  return splitFlags(args).flatMap(({ name, values }) => (dropped.includes(name) ? [] : [name, ...values]));
}

interface GivenFlag {
  readonly name: string;
  readonly values: string[];
}

function splitFlags(args: readonly string[]): readonly GivenFlag[] {
  const found: GivenFlag[] = [];
  for (const arg of args) {
    const { flag, value } = splitFlag(arg);
    if (arg.startsWith("--")) found.push({ name: flag, values: value === "" ? [] : [value.slice(1)] });
    else found.at(-1)?.values.push(arg);
  }
  return found;
}

/** Splits `SECTION.key=file` of `--set`; the key of another flag is its name without dashes. */
function splitValue(name: string, value: string): { readonly key: string; readonly file: string } {
  const end = name === "--set" ? value.indexOf("=") : -1;
  return end < 0 ? { key: name.slice(2), file: value } : { key: value.slice(0, end), file: value.slice(end + 1) };
}
