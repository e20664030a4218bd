import { fileError } from "../base/errors.js";

/** Whether a write failed because nobody reads any more (`| head`), or the terminal closed: no error. */
export function isReaderGone(error: NodeJS.ErrnoException): boolean {
  return error.code === "EPIPE" || error.code === "EIO";
}

/**
 * Prints results, and waits until they are out: a pipe takes some 64 KB at a time, and the process's end would cut off the rest. A reader that left is
 * no error. Throws FILE_UNWRITABLE, as where the output goes to a file on a disk that is full.
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === null || error === undefined || isReaderGone(error)) resolve();
      else reject(fileError(error, "standard output", "write"));
    });
  });
}
