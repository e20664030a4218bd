import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";

/** The directory of an attempt, with methods that create inputs in it. All paths are relative to the directory. */
export class Workplace {
  readonly directory: string;
  readonly #cleanups: (() => void)[] = [];

  constructor(directory: string) {
    this.directory = directory;
    // `out` is the default target; the other directories must not change.
    for (const name of ["out", "home", "tmp"]) mkdirSync(join(directory, name), { recursive: true });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  file(name: string, content: string | Uint8Array): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    writeFileSync(this.path(name), content);
  }

  link(name: string, to: string): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    symlinkSync(to, this.path(name));
  }

  copy(from: string, to: string): void {
    cpSync(this.path(from), this.path(to), { recursive: true, preserveTimestamps: true });
  }

  fifo(name: string): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    execFileSync("mkfifo", [this.path(name)]);
  }

  /** Creates a device node of the null device. */
  nullNode(name: string): void {
    execFileSync("mknod", [this.path(name), "c", "1", "3"]);
  }

  /** Creates a socket that listens until the attempt ends. */
  async socket(name: string): Promise<void> {
    const server = createServer().unref();
    await new Promise<void>((resolve) => server.listen(this.path(name), resolve));
    this.#cleanups.push(() => server.close());
  }

  /** Mounts a tmpfs with the given mount options, such as `size=1m`. */
  disk(name: string, options: string): void {
    const path = this.path(name);
    mkdirSync(path, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path]);
    this.#cleanups.push(() => execFileSync("umount", ["-l", path]));
  }

  makeReadOnly(name: string): void {
    execFileSync("mount", ["-o", "remount,ro", this.path(name)]);
  }

  close(): void {
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
  }
}
