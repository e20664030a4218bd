import { escapeJson, escapeLine } from "../base/shown-value.js";
import { DEFAULT_COLUMNS, wrapLine } from "../base/wrap.js";

/** Whether a write failed because the reader exited (`| head`) or the terminal closed, which is not an error. EIO from a file means a failing disk. */
export function isReaderGone(error: NodeJS.ErrnoException, stream: NodeJS.WriteStream): boolean {
  return error.code === "EPIPE" || (error.code === "EIO" && stream.isTTY === true);
}

/** Whether stdout shows results to a person: a terminal, and neither --quiet nor --json. */
export function isShown({
  quiet = false,
  json = false,
}: {
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}): boolean {
  return process.stdout.isTTY === true && !quiet && !json;
}

/** Returns the width of the terminal in columns. */
export function terminalColumns(): number {
  return process.stdout.columns || DEFAULT_COLUMNS;
}

/** Returns the width in which lines are wrapped: that of the terminal; infinite for files and pipes. */
export function columnsOf(stream: NodeJS.WriteStream): number {
  return stream.isTTY === true ? stream.columns || DEFAULT_COLUMNS : Number.POSITIVE_INFINITY;
}

// Commands print only through these functions, which escape control characters in text from input files.

/** Prints human-readable results on stdout; each string is one line, in which control characters are escaped, wrapped on a terminal. */
export function printLines(...lines: readonly string[]): Promise<void> {
  return print(joinLines(lines, columnsOf(process.stdout)));
}

/** Prints lines for a program on stdout, which are never wrapped. */
export function printScript(lines: readonly string[]): Promise<void> {
  return print(joinLines(lines, Number.POSITIVE_INFINITY));
}

/** Prints a machine-readable result on stdout: JSON that preserves all text exactly, with control characters escaped. */
export function printJson(value: unknown): Promise<void> {
  return print(`${escapeJson(JSON.stringify(value, null, 1))}\n`);
}

/** Prints the result of a command on stdout: with --json `value`, as one JSON document, else `lines`. */
export function printResult(
  { json = false }: { readonly json?: boolean | undefined },
  value: Readonly<Record<string, unknown>>,
  lines: readonly string[],
): Promise<void> {
  return json ? printJson(value) : printLines(...lines);
}

/** Prints progress, notes and errors on stderr; each string is one line, wrapped on a terminal. */
export function printToStderr(...lines: readonly string[]): void {
  process.stderr.write(joinLines(lines, columnsOf(process.stderr)));
}

function joinLines(lines: readonly string[], columns: number): string {
  return lines.flatMap((line) => wrapLine(escapeLine(line), columns).map((part) => `${part}\n`)).join("");
}

/**
 * Writes results, and resolves when they are written: a pipe takes about 64 KB at a time, and process.exit() would discard the rest. A failed write does not
 * abort the command, which may have work to save: `runProcess` reports it at the end.
 */
function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve());
  });
}
