/** Prints results, and waits until they are out: a pipe takes some 64 KB at a time, and the process's end would cut off the rest. A reader that left is no error. */
export function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve());
  });
}
