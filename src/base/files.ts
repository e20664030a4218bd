import { createReadStream, constants as FLAGS } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError } from "./errors.js";
import { temporaryName } from "./leftovers.js";
import { notReplaceable, resolveOutputDirectory, resolveOutputFile } from "./output-checks.js";

// Writes, moves and removes files and directories atomically, and so that they survive a power failure.

/** `open` flags that create a new file; `open` fails if the name exists, even as a symbolic link. */
export const CREATE_NEW = FLAGS.O_WRONLY | FLAGS.O_CREAT | FLAGS.O_EXCL | FLAGS.O_NOFOLLOW;

/** A file's content: as a whole, or in pieces that need not be in memory at the same time. */
export type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeContent(handle: FileHandle, content: Content): Promise<void> {
  if (typeof content === "string" || content instanceof Uint8Array) await handle.writeFile(content);
  else for await (const piece of content) await writeFully(handle, piece);
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
}

/**
 * A file that is written piece by piece under a temporary name next to its path, until `commit` flushes and renames it or `discard` removes it. A reader sees
 * either the complete old file or the complete new one. It replaces what `resolveOutputFile` allows. All methods but `discard` throw FILE_UNWRITABLE; the
 * file is then already discarded.
 */
export class AtomicFile {
  readonly path: string;
  readonly #unfinished: string;
  readonly #handle: FileHandle;

  private constructor(path: string, unfinished: string, handle: FileHandle) {
    this.path = path;
    this.#unfinished = unfinished;
    this.#handle = handle;
  }

  static async open(path: string): Promise<AtomicFile> {
    try {
      const target = await resolveOutputFile(path);
      await makeDirectory(dirname(target));
      const unfinished = temporaryName(target, "unfinished");
      return new AtomicFile(path, unfinished, await open(unfinished, CREATE_NEW));
    } catch (error) {
      throw fileError(error, path, "write");
    }
  }

  /** Resolves once the operating system has accepted the bytes, so a caller that awaits it gets back-pressure. One write at a time. */
  write(content: Content): Promise<void> {
    return this.#orDiscard(() => writeContent(this.#handle, content));
  }

  commit(): Promise<void> {
    return this.#orDiscard(async () => {
      await this.#handle.sync();
      await this.#handle.close();
      await moveFile(this.#unfinished, this.path);
    });
  }

  /** May be called at any time, also repeatedly. A committed file stays. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#unfinished, { force: true }).catch(() => undefined);
  }

  async #orDiscard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.discard();
      throw fileError(error, this.path, "write");
    }
  }
}

/** Writes a whole file through `AtomicFile`. Throws FILE_UNWRITABLE, or a `NextvladError` that `content` throws. */
export async function writeFileAtomic(path: string, content: Content): Promise<void> {
  const file = await AtomicFile.open(path);
  await file.write(content);
  await file.commit();
}

/** Renames a complete, flushed file to its final name, and flushes the directory. Throws FILE_UNWRITABLE, also if `to` exists and is not a regular file. */
export async function moveFile(from: string, to: string): Promise<void> {
  try {
    const target = await resolveOutputFile(to);
    await rename(from, target).catch(async (error: NodeJS.ErrnoException) => {
      // `to` may be a link to another file system.
      if (error.code !== "EXDEV") throw error;
      await writeFileAtomic(target, createReadStream(from));
      await rm(from);
    });
    await syncDirectory(dirname(target));
  } catch (error) {
    throw fileError(error, to, "write");
  }
}

async function writeAndSync(path: string, content: Content): Promise<void> {
  const handle = await open(path, CREATE_NEW);
  try {
    await writeContent(handle, content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes files, one after another, to a directory under a temporary name next to `path`, flushes them, then renames the directory to `path`, replacing an
 * existing directory. `addMore` may put further files, already flushed, into the directory that it receives. Throws FILE_UNWRITABLE; the old directory stays
 * unchanged until the new one is complete.
 */
export async function writeDirectoryAtomic(
  path: string,
  files: Iterable<readonly [name: string, content: Content]> | AsyncIterable<readonly [name: string, content: Content]>,
  addMore: (unfinished: string) => Promise<void> = async () => {},
): Promise<void> {
  let created: string | null = null;
  try {
    const target = await resolveOutputDirectory(path);
    await makeDirectory(dirname(target));
    const unfinished = temporaryName(target, "unfinished");
    await mkdir(unfinished);
    created = unfinished;
    for await (const [name, content] of files) await writeAndSync(join(unfinished, name), content);
    await addMore(unfinished);
    await syncDirectory(unfinished);
    await replaceDirectory(unfinished, await resolveOutputDirectory(path));
    await syncDirectory(dirname(target));
  } catch (error) {
    if (created !== null) await rm(created, { recursive: true, force: true }).catch(() => undefined);
    throw fileError(error, path, "write");
  }
}

/** A rename cannot replace a non-empty directory, so the old one is renamed first and removed last. */
async function replaceDirectory(from: string, to: string): Promise<void> {
  const aside = `${from}-old`;
  await rename(to, aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(from, to).catch(async (error: unknown) => {
    await rename(aside, to).catch(() => undefined);
    throw error;
  });
  await rm(aside, { recursive: true, force: true });
}

/** Removes a directory, or a link to one. It is renamed first, so that no process sees a part of it under its name. Throws FILE_UNWRITABLE. */
export async function removeDirectory(path: string): Promise<void> {
  const aside = temporaryName(path, "removed");
  try {
    const found = await stat(path).catch(() => lstat(path));
    if (!found.isDirectory() && !found.isSymbolicLink()) throw notReplaceable(path, found, "a directory");
    await rename(path, aside);
    await rm(aside, { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, path, "write");
  }
}

/**
 * Creates a directory and its missing parents so that they survive a power failure. Node's own recursive mkdir never returns if a parent accepts no directory
 * (/proc/x, Node 20 and 24). Throws the file system's error.
 */
export async function makeDirectory(path: string): Promise<void> {
  const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    // For example, the path is too long: none of its directories is created.
    throw error;
  });
  if (there?.isDirectory()) return;
  if (there !== null) throw Object.assign(new Error(`${path} is not a directory`), { code: "ENOTDIR" });
  // Not resolved against the current directory, whose path may not be UTF-8.
  const above = dirname(path);
  if (above !== path) await makeDirectory(above);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  await syncDirectory(above).catch((error: NodeJS.ErrnoException) => {
    // The parent may be writable but not readable; then it cannot be flushed.
    if (error.code !== "EACCES") throw error;
  });
}

/** Flushes a directory's entries to the disk, so that a rename in it survives a power failure. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
