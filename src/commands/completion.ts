import type { Command, Option } from "commander";
import { findKey } from "../config/keys.js";
import { SHELLS, type Shell } from "./flag-values.js";
import { type CommandName, overriddenKeys } from "./flags.js";
import { printLines } from "./output.js";

/** `nextvlad completion`: prints a script that completes commands, flags, their choices and paths in a shell; returns the exit code. */
export async function runCompletion(shell: Shell, program: Command): Promise<number> {
  const format = { bash: formatBash, zsh: formatZsh, fish: formatFish }[shell];
  await printLines(...format(describe(program)));
  return 0;
}

interface DescribedFlag {
  readonly long: string;
  readonly help: string;
  /** Whether it takes a value, which may be optional. */
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

interface DescribedCommand {
  readonly name: string;
  readonly help: string;
  readonly flags: readonly DescribedFlag[];
  /** Choices of its argument; empty for paths. */
  readonly choices: readonly string[];
}

function describe(program: Command): readonly DescribedCommand[] {
  return program.commands.map((command) => ({
    name: command.name(),
    help: command.description(),
    flags: [
      ...command.options.map((option) => describeFlag(command.name() as CommandName, option)),
      { long: "--help", help: "display help", takesValue: false, choices: [] },
    ],
    choices: command.name() === "completion" ? SHELLS : [],
  }));
}

function describeFlag(command: CommandName, { long, description, required, optional, argChoices }: Option): DescribedFlag {
  const name = long ?? "";
  const takesValue = required || optional;
  return {
    long: name,
    help: description.split(/[:;(]/, 1)[0]?.trim() ?? "",
    takesValue,
    choices: argChoices ?? (takesValue ? configChoices(command, name) : []),
  };
}

/** Returns the values of the config key that a flag sets; empty if they are not few, or it sets none. */
function configChoices(command: CommandName, long: string): readonly string[] {
  const [section = "", name = ""] = overriddenKeys(command, long)[0]?.split(".") ?? [];
  return findKey(section, name)?.choices ?? [];
}

function formatBash(commands: readonly DescribedCommand[]): readonly string[] {
  const cases = commands.flatMap(({ name, flags, choices }) => [
    `    ${name})`,
    `      words="${flags.map(({ long }) => long).join(" ")}"`,
    ...(choices.length === 0 ? [] : [`      arguments="${choices.join(" ")}"`]),
    "      case $previous in",
    ...flags.filter(({ choices }) => choices.length > 0).map(({ long, choices }) => `        ${long}) values="${choices.join(" ")}" ;;`),
    "      esac",
    "      ;;",
  ]);
  return [
    "# bash completion of nextvlad: source it, or write it to ~/.local/share/bash-completion/completions/nextvlad",
    "_nextvlad() {",
    '  local current=$2 previous=$3 command words="" values="" arguments=""',
    '  read -r _ command _ <<<"$COMP_LINE"',
    "  COMPREPLY=()",
    '  if [ "$COMP_CWORD" -eq 1 ]; then',
    `    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")} --help --version" -- "$current"))`,
    "    return",
    "  fi",
    "  case $command in",
    ...cases,
    "  esac",
    '  if [ -n "$values" ]; then',
    '    COMPREPLY=($(compgen -W "$values" -- "$current"))',
    "  elif [[ $current == -* ]]; then",
    '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '  elif [ -n "$arguments" ]; then',
    '    COMPREPLY=($(compgen -W "$arguments" -- "$current"))',
    "  else",
    "    compopt -o filenames",
    '    COMPREPLY=($(compgen -f -- "$current"))',
    "  fi",
    "}",
    "complete -F _nextvlad nextvlad",
  ];
}

/** Quotes text for zsh and fish: in single quotes, without any. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "’")}'`;
}

/** Escapes what ends a description or a name in _arguments. */
function escapeZsh(text: string): string {
  return text.replace(/[[\]:\\]/g, "\\$&");
}

function formatZsh(commands: readonly DescribedCommand[]): readonly string[] {
  const specification = ({ long, help, takesValue, choices }: DescribedFlag): string => {
    const values = choices.length === 0 ? "_files" : `(${choices.join(" ")})`;
    return quoted(`*${long}[${escapeZsh(help)}]${takesValue ? `:value:${values}` : ""}`);
  };
  return [
    "#compdef nextvlad",
    "# zsh completion of nextvlad: write it to a file named _nextvlad in a directory of $fpath",
    "_nextvlad() {",
    "  local -a commands",
    `  commands=(${commands.map(({ name, help }) => quoted(`${name}:${escapeZsh(help)}`)).join(" ")})`,
    "  if (( CURRENT == 2 )); then",
    "    _describe -t commands 'command' commands",
    "    return",
    "  fi",
    "  local command=$words[2]",
    "  shift words",
    "  (( CURRENT-- ))",
    "  case $command in",
    ...commands.map(({ name, flags, choices }) => {
      const argument = choices.length === 0 ? "'*:file:_files'" : `'1:argument:(${choices.join(" ")})'`;
      return `    ${name}) _arguments ${flags.map(specification).join(" ")} ${argument} ;;`;
    }),
    "  esac",
    "}",
    'if [ "$funcstack[1]" = "_nextvlad" ]; then _nextvlad "$@"; else compdef _nextvlad nextvlad; fi',
  ];
}

function formatFish(commands: readonly DescribedCommand[]): readonly string[] {
  return [
    "# fish completion of nextvlad: write it to ~/.config/fish/completions/nextvlad.fish",
    ...commands.flatMap(({ name, help, flags, choices }) => [
      `complete -c nextvlad -n __fish_use_subcommand -f -a ${name} -d ${quoted(help)}`,
      ...flags.map(({ long, help, takesValue, choices }) => {
        const value = !takesValue ? "" : choices.length === 0 ? " -r" : ` -x -a ${quoted(choices.join(" "))}`;
        return `complete -c nextvlad -n '__fish_seen_subcommand_from ${name}' -l ${long.slice(2)}${value} -d ${quoted(help)}`;
      }),
      ...(choices.length === 0 ? [] : [`complete -c nextvlad -n '__fish_seen_subcommand_from ${name}' -f -a ${quoted(choices.join(" "))}`]),
    ]),
  ];
}
