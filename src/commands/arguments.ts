import { NextvladError } from "../base/errors.js";
import { FOREIGN_FLAGS, IGNORED_FLAGS } from "./foreign-flags.js";

/** Aliases of commands: the names of PaddleVideo's scripts. */
export const COMMAND_ALIASES: Readonly<Record<string, string>> = {
  predict: "infer",
  test: "eval",
  evaluate: "eval",
  version: "--version",
};

/** Aliases of flags. An alias stands for the first of its flags that the command has. It has no effect if the command declares a flag of that name itself. */
export const FLAG_ALIASES: Readonly<Record<string, readonly string[]>> = {
  "-c": ["--config"],
  "-o": ["--set"],
  "--override": ["--set"],
  "-w": ["--pretrain", "--weights"],
  "--lr": ["--learning-rate"],
  "--seed": ["--fix-random-seed"],
};

/** The command line with aliases resolved, as the parser expects it. */
export interface NormalisedArguments {
  readonly args: readonly string[];
  /** The subcommand, by its canonical name; undefined if none is given. */
  readonly command: string | undefined;
  /** Notes to print about flags that are accepted and ignored. */
  readonly notes: readonly string[];
}

/**
 * Resolves aliases, and replaces underscores in flag names by dashes (`--batch_size=8`). `flagsOf`: the flags of each command.
 * Throws BAD_USAGE for `-o` in a command with `--out`, and for a flag of another tool if the command has an equivalent.
 */
export function normaliseArguments(args: readonly string[], flagsOf: ReadonlyMap<string, ReadonlySet<string>>): NormalisedArguments {
  const place = args.findIndex((arg) => !arg.startsWith("-"));
  const word = args[place] ?? "";
  const name = Object.hasOwn(COMMAND_ALIASES, word) ? (COMMAND_ALIASES[word] as string) : word;
  const command = flagsOf.has(name) ? name : undefined;
  const flags = flagsOf.get(name) ?? new Set();
  const notes: string[] = [];
  const normalised: string[] = [];
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  for (const [i, arg] of args.entries()) {
    if (i === place) normalised.push(name);
    else if (i >= end || !arg.startsWith("-")) normalised.push(arg);
    else {
      const { flag, value } = splitFlag(arg);
      const note = Object.hasOwn(IGNORED_FLAGS, flag) ? IGNORED_FLAGS[flag] : undefined;
      if (note !== undefined) notes.push(`${flag} ${note}`);
      else normalised.push(...translate(flag, value, arg, flags, name));
    }
  }
  return { args: normalised, command, notes };
}

/** Splits an argument into the flag's name, with dashes, and the rest: `=8` of `--batch_size=8`, `x` of `-cx`. */
export function splitFlag(arg: string): { readonly flag: string; readonly value: string } {
  if (!arg.startsWith("--")) return { flag: arg.slice(0, 2), value: arg.slice(2) };
  const end = arg.includes("=") ? arg.indexOf("=") : arg.length;
  return { flag: arg.slice(0, end).replaceAll("_", "-"), value: arg.slice(end) };
}

function translate(flag: string, value: string, arg: string, flags: ReadonlySet<string>, command: string): string[] {
  if (flags.has(flag)) return [flag + value];
  if (flag === "-o" && flags.has("--out")) {
    const remedy = `use --out for the path of the output${flags.has("--set") ? ", --set for a config key" : ""}`;
    throw new NextvladError("BAD_USAGE", UNKNOWN_FLAG, { key: flag, remedy });
  }
  const target = targetOf(flag, flags);
  if (target !== undefined) return value === "" ? [target] : [target, value.replace(/^=/, "")];
  const remedy = Object.hasOwn(FOREIGN_FLAGS, flag) ? FOREIGN_FLAGS[flag] : undefined;
  if (remedy !== undefined && MODEL_COMMANDS.has(command) && helpsIn(flags, remedy)) {
    throw new NextvladError("BAD_USAGE", UNKNOWN_FLAG, { key: flag, remedy });
  }
  return [arg.startsWith("--") ? flag + value : arg];
}

/** The commands that the other tools have too. */
const MODEL_COMMANDS: ReadonlySet<string> = new Set(["train", "eval", "infer"]);

/** Whether a command with these flags has at least one of the flags that the remedy names; true if the remedy names none. */
function helpsIn(flags: ReadonlySet<string>, remedy: string): boolean {
  const named = remedy.match(/--[a-z-]+/g) ?? [];
  return named.length === 0 || named.some((flag) => flags.has(flag));
}

/** Returns the flag that an alias stands for; undefined if the command has none. `-o` is ambiguous, and no alias, in a command with `--out`. */
function targetOf(alias: string, flags: ReadonlySet<string>): string | undefined {
  if (alias === "-o" && flags.has("--out")) return undefined;
  return FLAG_ALIASES[alias]?.find((name) => flags.has(name));
}

/** Error text for a flag that the command does not have. */
export const UNKNOWN_FLAG = "unknown flag";

/** Returns the help text that lists a command's flag aliases; empty if it has none. */
export function describeFlagAliases(flags: ReadonlySet<string>): string {
  const pairs = Object.keys(FLAG_ALIASES).flatMap((alias) => {
    const target = targetOf(alias, flags);
    return target === undefined || flags.has(alias) ? [] : [`${alias} (${target})`];
  });
  return pairs.length === 0 ? "" : `\nAliases: ${pairs.join(", ")}`;
}

/** Returns the help text that lists the command aliases. */
export function describeCommandAliases(): string {
  return `\nAliases: ${Object.entries(COMMAND_ALIASES)
    .map(([alias, target]) => `${alias} (${target})`)
    .join(", ")}`;
}
