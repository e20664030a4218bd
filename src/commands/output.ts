import { escapeJson, escapeLine } from "../base/shown-value.js";

/** Whether a write failed because the reader exited (`| head`), or the terminal closed: no error. EIO from a file is a failing disk. */
export function isReaderGone(error: NodeJS.ErrnoException, stream: NodeJS.WriteStream): boolean {
  return error.code === "EPIPE" || (error.code === "EIO" && stream.isTTY === true);
}

// Commands print through these functions alone, so that no text from outside reaches a terminal raw.

/** Prints results for people on stdout; each string is one line, in which control characters are escaped. */
export function printLines(...lines: readonly string[]): Promise<void> {
  return print(joinLines(lines));
}

/** Prints a result for programs on stdout: JSON that holds all text exactly, and is safe to look at. */
export function printJson(value: unknown): Promise<void> {
  return print(`${escapeJson(JSON.stringify(value, null, 1))}\n`);
}

/** Prints progress, notes and errors on stderr; each string is one line. */
export function printToStderr(...lines: readonly string[]): void {
  process.stderr.write(joinLines(lines));
}

function joinLines(lines: readonly string[]): string {
  return lines.map((line) => `${escapeLine(line)}\n`).join("");
}

/**
 * Writes results, and returns when they are out: a pipe takes some 64 KB at a time, and the end of the process would discard the rest. A failed write does
 * not end the command, which may have work to save: `runProcess` reports it at the end.
 */
function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve());
  });
}
