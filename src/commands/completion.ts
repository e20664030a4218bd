import type { Command, Option } from "commander";
import { describeKeys, findKey } from "../config/keys.js";
import { RESULT_FORMATS } from "../results/result-formats.js";
import { COMMAND_ALIASES } from "./arguments.js";
import { resultFormats, SHELLS, type Shell } from "./flag-values.js";
import { type CommandName, overriddenKeys } from "./flags.js";
import { printScript } from "./output.js";

/** `nextvlad completion`: prints a script that completes commands, flags, their choices and paths in a shell; returns the exit code. */
export async function runCompletion(shell: Shell, program: Command): Promise<number> {
  const format = { bash: formatBash, zsh: formatZsh, fish: formatFish }[shell];
  await printScript(format(describe(program)));
  return 0;
}

interface DescribedFlag {
  readonly long: string;
  readonly help: string;
  /** Whether it takes a value, which may be optional. */
  readonly takesValue: boolean;
  readonly choices: readonly string[];
  /** Choices that a value of any text follows. */
  readonly keys: readonly string[];
}

interface DescribedCommand {
  readonly name: string;
  /** Its name and its aliases. */
  readonly names: readonly string[];
  readonly help: string;
  readonly flags: readonly DescribedFlag[];
  /** Choices of its argument; empty for paths. */
  readonly choices: readonly string[];
}

function describe(program: Command): readonly DescribedCommand[] {
  const commands = program.commands.map((command) => ({
    name: command.name(),
    names: [command.name(), ...Object.keys(COMMAND_ALIASES).filter((alias) => COMMAND_ALIASES[alias] === command.name())],
    help: command.description(),
    flags: [
      ...command.options.map((option) => describeFlag(command.name() as CommandName, option)),
      { long: "--help", help: "display help", takesValue: false, choices: [], keys: [] },
    ],
    choices: command.name() === "completion" ? SHELLS : [],
  }));
  const help = { name: "help", names: ["help"], help: "display help for command", flags: [], choices: commands.map(({ name }) => name) };
  return [...commands, help];
}

function describeFlag(command: CommandName, { long, description, required, optional, argChoices, parseArg }: Option): DescribedFlag {
  const name = long ?? "";
  const takesValue = required || optional;
  return {
    long: name,
    help: shorten(description),
    takesValue,
    choices: argChoices ?? (parseArg === resultFormats ? Object.keys(RESULT_FORMATS) : takesValue ? configChoices(command, name) : []),
    keys: name === "--set" ? CONFIG_KEYS : [],
  };
}

const CONFIG_KEYS: readonly string[] = describeKeys().map(({ section, name }) => `${section}.${name}=`);

/** Returns the first part of a flag's help: up to a colon, unless that is one word only. */
function shorten(help: string): string {
  const [part = ""] = help.split(/[:;([]/, 1);
  return (part.includes(" ") ? part : (help.split(/[;([]/, 1)[0] as string)).trim();
}

/** Returns the values of the config key that a flag sets; empty if they are not few, or it sets none. */
function configChoices(command: CommandName, long: string): readonly string[] {
  const [section = "", name = ""] = overriddenKeys(command, long)[0]?.split(".") ?? [];
  return findKey(section, name)?.choices ?? [];
}

function formatBash(commands: readonly DescribedCommand[]): readonly string[] {
  const cases = commands.flatMap(({ names, flags, choices }) => [
    `    ${names.join("|")})`,
    `      words="${flags.map(({ long }) => long).join(" ")}"`,
    ...(choices.length === 0 ? [] : [`      arguments="${choices.join(" ")}"`]),
    "      case $previous in",
    ...flags.filter(({ choices }) => choices.length > 0).map(({ long, choices }) => `        ${long}) values="${choices.join(" ")}" ;;`),
    ...flags.filter(({ keys }) => keys.length > 0).map(({ long }) => `        ${long}) keys="${CONFIG_KEYS.join(" ")}" ;;`),
    "      esac",
    "      ;;",
  ]);
  return [
    "# bash completion of nextvlad: source it, or write it to ~/.local/share/bash-completion/completions/nextvlad",
    "_nextvlad() {",
    '  local current=$2 previous=$3 command words="" values="" keys="" arguments=""',
    '  read -r _ command _ <<<"$COMP_LINE"',
    "  COMPREPLY=()",
    "  # Bash divides --flag=value into three words.",
    '  if [ "$current" = "=" ]; then',
    '    current=""',
    '  elif [ "$previous" = "=" ]; then',
    `    previous=\${COMP_WORDS[COMP_CWORD - 2]}`,
    "  fi",
    '  if [ "$COMP_CWORD" -eq 1 ]; then',
    `    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")} --help --version" -- "$current"))`,
    "    return",
    "  fi",
    "  case $command in",
    ...cases,
    "  esac",
    '  if [ -n "$values" ]; then',
    '    COMPREPLY=($(compgen -W "$values" -- "$current"))',
    '  elif [ -n "$keys" ]; then',
    "    compopt -o nospace",
    '    COMPREPLY=($(compgen -W "$keys" -- "$current"))',
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
  const specification = ({ long, help, takesValue, choices, keys }: DescribedFlag): string => {
    const words = choices.length === 0 ? "_files" : `(${choices.join(" ")})`;
    const values = keys.length === 0 ? words : '{compadd -S "" -- $keys}';
    return quoted(`*${long}${takesValue ? "=" : ""}[${escapeZsh(help)}]${takesValue ? `:value:${values}` : ""}`);
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
    `  local -a keys=(${CONFIG_KEYS.join(" ")})`,
    "  case $command in",
    ...commands.map(({ names, flags, choices }) => {
      const argument = choices.length === 0 ? "'*:file:_files'" : `'1:argument:(${choices.join(" ")})'`;
      return `    ${names.join("|")}) _arguments ${flags.map(specification).join(" ")} ${argument} ;;`;
    }),
    "  esac",
    "}",
    'if [ "$funcstack[1]" = "_nextvlad" ]; then _nextvlad "$@"; else compdef _nextvlad nextvlad; fi',
  ];
}

function formatFish(commands: readonly DescribedCommand[]): readonly string[] {
  return [
    "# fish completion of nextvlad: write it to ~/.config/fish/completions/nextvlad.fish",
    ...commands.flatMap(({ name, names, help, flags, choices }) => [
      `complete -c nextvlad -n __fish_use_subcommand -f -a ${name} -d ${quoted(help)}`,
      ...flags.map(({ long, help, takesValue, choices, keys }) => {
        const words = [...choices, ...keys];
        const value = !takesValue ? "" : words.length === 0 ? " -r" : ` -x -a ${quoted(words.join(" "))}`;
        return `complete -c nextvlad -n '__fish_seen_subcommand_from ${names.join(" ")}' -l ${long.slice(2)}${value} -d ${quoted(help)}`;
      }),
      ...(choices.length === 0
        ? []
        : [`complete -c nextvlad -n '__fish_seen_subcommand_from ${names.join(" ")}' -f -a ${quoted(choices.join(" "))}`]),
    ]),
  ];
}
