import { CommanderError } from "commander";
import { formatError, NextvladError, RAISE_OPEN_FILES } from "../base/errors.js";
import { showChoices, showMessage, showValue } from "../base/shown-value.js";
import { UNKNOWN_COMMAND, UNKNOWN_FLAG } from "./arguments.js";

/** How the CLI reports an error: the exit code, and the lines for stderr (the error, then commands that can be copied; empty if there is nothing to print). */
interface Failure {
  readonly lines: readonly string[];
  readonly exitCode: number;
}

/** Formats an error for the CLI. `command` is the subcommand's name, for a reference to its help. NEXTVLAD_DEBUG=1 adds the stack trace. */
export function formatFailure(error: unknown, command: string | undefined): Failure {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return { lines: [], exitCode: 0 };
    if (error.code === "commander.help") return { lines: [], exitCode: 2 };
    return formatFailure(usageError(error, command), command);
  }
  const stack = process.env.NEXTVLAD_DEBUG === "1" && error instanceof Error ? stackLines(error) : [];
  if (error instanceof NextvladError) {
    return { lines: [...formatError(error), ...stack, ...(error.details.commands ?? [])], exitCode: error.exitCode };
  }
  const expected = environmentError(error);
  if (expected !== null) return formatFailure(expected, command);
  const message = showMessage(error instanceof Error ? error.message || error.name : String(error));
  const help = "  help: this is a bug in nextvlad; the log and NEXTVLAD_DEBUG=1 show the stack trace";
  return { lines: [`error[INTERNAL]: ${message}`, ...(stack.length === 0 ? [help] : stack)], exitCode: 1 };
}

/** Returns an error's stack trace with its message escaped, because the message may contain text from input files. */
function stackLines({ name, message, stack = "" }: Error): readonly string[] {
  return [`${name}: ${showMessage(message)}`, ...stack.split("\n").filter((line) => /^ {4}at /.test(line))];
}

/**
 * Converts errors of the process's environment, which can occur anywhere, to a NextvladError: too many open files, a deleted working directory, an invalid HOME.
 * Returns null for other errors.
 */
function environmentError(error: unknown): NextvladError | null {
  const { code, syscall, message = "" } = error instanceof Error ? (error as NodeJS.ErrnoException) : {};
  if (syscall === "uv_cwd") {
    const remedy = "change to another directory";
    return new NextvladError("FILE_MISSING", "the working directory was deleted", { remedy }, error);
  }
  if (syscall === "uv_os_homedir") {
    const remedy = "set it to the path of your home directory";
    return new NextvladError("FILE_MISSING", "the home directory cannot be determined", { key: "HOME", remedy }, error);
  }
  if (code !== "EMFILE" && code !== "ENFILE" && !/\bE[MN]FILE\b/.test(message)) return null;
  return new NextvladError("FILE_UNREADABLE", "too many open files", { remedy: RAISE_OPEN_FILES }, error);
}

type Groups = readonly (string | undefined)[];

interface Usage {
  readonly what: string;
  readonly key?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
}

/** An option as commander names it: `'--config <file>'`. */
const FLAG = /'(--[\w-]+)([^']*)'/;

/** How to rephrase commander's messages (version 14) in the form of config errors. */
const USAGE: Readonly<Record<string, readonly [RegExp, (groups: Groups) => Usage]>> = {
  "commander.unknownOption": [/'(.+?)'/s, ([flag]) => ({ what: UNKNOWN_FLAG, key: flag })],
  "commander.unknownCommand": [/'(.+?)'/s, ([name]) => ({ what: UNKNOWN_COMMAND, key: name })],
  "commander.missingArgument": [/'(.+?)'/s, ([name]) => ({ what: "missing argument", expected: `<${name}>` })],
  "commander.missingMandatoryOptionValue": [FLAG, ([flag]) => ({ what: "required flag is missing", key: flag })],
  "commander.optionMissingArgument": [FLAG, ([flag, value]) => ({ what: "missing value", key: flag, expected: value?.trim() })],
  "commander.conflictingOption": [
    /'(--[\w-]+).*?' cannot be used with option '(--[\w-]+)/s,
    ([flag, other]) => ({ what: `cannot be used with ${other}`, key: flag }),
  ],
  "commander.invalidArgument": [
    /(?:'(--[\w-]+)[^']*' argument|command-argument value) '(.*)' is invalid(?: for argument '(.+?)')?\. (Allowed choices are )?(.*?)\.?$/s,
    ([flag, found = "", argument, choices, expected = ""]) => ({
      what: "invalid value",
      key: flag ?? `<${argument}>`,
      expected: choices === undefined ? expected : showChoices(expected.split(", ")),
      found: showValue(found),
    }),
  ],
  "commander.excessArguments": [
    /Expected (\d+) arguments? but got (\d+)/,
    ([expected = "0", found = ""]) => ({ what: "too many arguments", expected, found }),
  ],
};

function usageError(error: CommanderError, command: string | undefined): NextvladError {
  const help = `see ${command === undefined ? "nextvlad --help" : `nextvlad ${command} --help`}`;
  const [pattern, describe] = USAGE[error.code] ?? [];
  const groups = pattern?.exec(error.message);
  if (!groups || describe === undefined) {
    return new NextvladError(
      "BAD_USAGE",
      showMessage(error.message)
        .replace(/^error: /, "")
        .replace(/\.$/, ""),
      { remedy: help },
    );
  }
  const { what, ...details } = describe(groups.slice(1));
  const [, suggestion] = /\(Did you mean (.*?)\?\)/.exec(error.message) ?? [];
  const remedy = suggestion === undefined ? help : `did you mean ${suggestion}? ${help}`;
  const given = Object.entries(details).filter(([, value]) => value !== undefined && value !== "");
  return new NextvladError("BAD_USAGE", what, { ...Object.fromEntries(given), remedy });
}
