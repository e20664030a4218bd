import type { Command } from "commander";
import { version } from "../../src/base/package.js";
import { wrapCommand } from "../../src/base/wrap.js";
import { program } from "../../src/cli.js";
import type { CommandName } from "../../src/commands/flags.js";
import { COMMAND_HELP } from "../../src/commands/help.js";

/** Exit codes, as in the README and docs/errors.md. */
const EXIT_CODES = [
  ["0", "done"],
  ["1", "failed"],
  ["2", "invalid usage or config"],
  ["129, 130, 143", "stopped by SIGHUP, SIGINT or SIGTERM, after saving"],
] as const;

const ENVIRONMENT = [
  ["NEXTVLAD_ISA", "processor level to compute at: v2, avx2, avxvnni, avx512, avx512vnni or amx"],
  ["OMP_NUM_THREADS", "number of threads that compute, unless --threads is given"],
  ["CUDA_VISIBLE_DEVICES", "GPUs that may be used"],
  ["TF_CONFIG", "addresses of several processes that compute together"],
  ["NO_COLOR", "if set, no colours"],
] as const;

/** Date of the version, or of the last large change of the page before its release. */
const DATE = "2026-11-30";

/** Maximum length of a line of text in the page's source, as mandoc -T lint recommends. */
const SOURCE_COLUMNS = 80;

/** Width of the examples, which man indents by 11 columns: they fit 80 columns. */
const EXAMPLE_COLUMNS = 67;

/** Returns the manual page nextvlad(1), in the macros of man(7). */
export function manPage(): string {
  return [
    `.TH NEXTVLAD 1 "${DATE}" "nextvlad ${version()}" "User Commands"`,
    ".SH NAME",
    ...paragraph(`nextvlad \\- ${escapeRoff(program.description())}`),
    ".SH SYNOPSIS",
    ".B nextvlad",
    ".I command",
    "[options]",
    ".SH COMMANDS",
    ...program.commands.flatMap(describeCommand),
    ".SH EXIT STATUS",
    ...EXIT_CODES.flatMap(([code, meaning]) => entry(code, meaning)),
    ".SH ENVIRONMENT",
    ...ENVIRONMENT.flatMap(([name, meaning]) => entry(name, meaning)),
    "",
  ].join("\n");
}

function describeCommand(command: Command): readonly string[] {
  const { examples } = COMMAND_HELP[command.name() as CommandName];
  return [
    `.SS ${escapeRoff(`nextvlad ${command.name()} ${command.usage()}`)}`,
    ...paragraph(escapeRoff(command.description())),
    ...command.registeredArguments.flatMap((argument) =>
      entry(argument.required ? `<${argument.name()}>` : `[${argument.name()}]`, argument.description),
    ),
    ...command.options.flatMap(({ flags, description, defaultValue, defaultValueDescription, argChoices }) => {
      const shown = defaultValueDescription ?? (defaultValue === undefined || Array.isArray(defaultValue) ? "" : String(defaultValue));
      const choices = argChoices === undefined ? "" : `: ${argChoices.join(", ")}`;
      return entry(flags, `${description}${choices}${shown === "" ? "" : ` (default: ${shown})`}`);
    }),
    ".PP",
    "Examples:",
    ".nf",
    ...examples.flatMap((example) => wrapCommand(example, EXAMPLE_COLUMNS)).map((line) => escapeRoff(`    ${line}`)),
    ".fi",
  ];
}

function entry(term: string, meaning: string): readonly string[] {
  return [".TP", `.B ${escapeRoff(term)}`, ...paragraph(escapeRoff(meaning))];
}

/** Breaks escaped text at spaces into lines. A dot or an apostrophe at the start of one would be a request. */
function paragraph(escaped: string): readonly string[] {
  const lines: string[] = [];
  for (const word of escaped.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= SOURCE_COLUMNS) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(/^[.']/.test(word) ? `\\&${word}` : word);
  }
  return lines;
}

/** Escapes backslashes, and dashes, which would else be typeset as hyphens. */
function escapeRoff(line: string): string {
  return line.replaceAll("\\", "\\e").replaceAll("-", "\\-");
}
