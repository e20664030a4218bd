import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import { PARSERS, type ParserName } from "./target.js";

/** Parses the command line: parser names (default: all) and optional integer flags. Throws BAD_USAGE if an argument is invalid. */
export function readArguments<N extends string>(
  argv: readonly string[],
  defaults: Readonly<Record<N, number>>,
): { readonly parsers: readonly ParserName[] } & Readonly<Record<N, number>> {
  const names = Object.keys(defaults) as N[];
  const options = Object.fromEntries(names.map((name) => [name, { type: "string" as const }]));
  const { values, positionals } = parse(argv, options);
  const unknown = positionals.find((name) => !PARSERS.some((parser) => parser === name));
  if (unknown !== undefined) invalid("parser", PARSERS.join(", "), unknown);
  const numbers = names.map((name) => {
    const text = values[name];
    if (text !== undefined && !/^\d{1,9}$/.test(text)) invalid(`--${name}`, "an integer", text);
    return [name, text === undefined ? defaults[name] : Number(text)] as const;
  });
  const parsers = positionals.length > 0 ? (positionals as ParserName[]) : PARSERS;
  return { parsers, ...(Object.fromEntries(numbers) as Record<N, number>) };
}

function parse(argv: readonly string[], options: Readonly<Record<string, { type: "string" }>>) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options }) as { values: Record<string, string>; positionals: string[] };
  } catch (error) {
    const what = error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
    throw new NextvladError("BAD_USAGE", what, {}, error);
  }
}

function invalid(key: string, expected: string, found: string): never {
  throw new NextvladError("BAD_USAGE", "invalid argument", { key, expected, found });
}

/** Runs `work` and sets the exit code that it returns. Prints a NextvladError as its message only and uses its exit code; handles SIGINT and SIGTERM. */
export async function runMain(work: () => Promise<number>): Promise<void> {
  process.once("SIGINT", () => process.exit(130)).once("SIGTERM", () => process.exit(143));
  try {
    process.exitCode = await work();
  } catch (error) {
    if (!(error instanceof NextvladError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = error.exitCode;
  }
}
