import { fileError } from "../base/errors.js";
import { escapeJson, escapeLine } from "../base/shown-value.js";

/** Whether a write failed because nobody reads any more (`| head`), or the terminal closed: no error. */
export function isReaderGone(error: NodeJS.ErrnoException): boolean {
  return error.code === "EPIPE" || error.code === "EIO";
}

// Commands print through these functions alone, so that no text from outside reaches a terminal raw.

/** Prints results for people on stdout; each string is one line, in which control characters are escaped. Throws FILE_UNWRITABLE. */
export function printLines(...lines: readonly string[]): Promise<void> {
  return print(joinLines(lines));
}

/** Prints a result for programs on stdout: JSON that holds all text exactly, and is safe to look at. Throws FILE_UNWRITABLE. */
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
 * Prints results, and waits until they are out: a pipe takes some 64 KB at a time, and the process's end would cut off the rest. A reader that left is
 * no error. Throws FILE_UNWRITABLE, as where the output goes to a file on a disk that is full.
 */
function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === null || error === undefined || isReaderGone(error)) resolve();
      else reject(fileError(error, "standard output", "write"));
    });
  });
}
