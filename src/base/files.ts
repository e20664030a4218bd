import { type FileHandle, mkdir, open, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileError, NextvladError } from "./errors.js";

/** The name that a file or directory has until it is whole: beside its place, hidden, and this process's own. `leftovers.ts` knows it again. */
function unfinishedName(path: string): string {
  return join(dirname(path), `.${basename(path)}.unfinished-${process.pid}`);
}

/** Bytes that may be written to the file system that a folder is on; null where it tells no sizes, or the folder is not there. */
export async function freeBytes(folder: string): Promise<number | null> {
  const disk = await statfs(folder).catch(() => null);
  return disk === null || disk.blocks === 0 ? null : disk.bavail * disk.bsize;
}

/**
 * Sees to it, before a large write, that the disk has room for it. File systems that tell no sizes pass. Throws FILE_UNWRITABLE.
 * Others write too, so the write itself may still find the disk full.
 */
export async function requireFreeSpace(folder: string, bytes: number): Promise<void> {
  const free = await freeBytes(folder);
  if (free === null || free >= bytes) return;
  const [expected, found] = [bytes, free].map((size) => `${(size / 1e6).toFixed(1)} MB`) as [string, string];
  const remedy = "make room there, or choose another place";
  throw new NextvladError("FILE_UNWRITABLE", "cannot write it: too little space is free", { file: folder, expected, found, remedy });
}

/** A pipe that nobody writes to keeps whoever opens it for ever; one that is written to has no places to read from. Throws FILE_UNREADABLE. */
export async function refusePipe(path: string): Promise<void> {
  // What else is wrong with the file is told by whoever opens it.
  const found = await stat(path).catch(() => null);
  if (!found?.isFIFO()) return;
  const remedy = "write what comes from it into a file, and name that";
  throw new NextvladError("FILE_UNREADABLE", "cannot read it: it is a pipe, not a file", { file: path, remedy });
}

/** Flushes a directory's entries to the disk, so that a rename in it outlives a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gives a file that is whole, and on the disk, its place, and sees to it that this outlives a power cut. Throws FILE_UNWRITABLE. */
export async function moveFile(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
    await syncDirectory(dirname(to));
  } catch (error) {
    throw fileError(error, to, "write");
  }
}

/** Makes a folder and those above it, where missing, so that they outlive a power cut. Node's own recursive mkdir never returns in a folder that takes none (/proc/x, Node 20 and 24). */
export async function makeFolder(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there?.isDirectory()) return;
  if (there !== null) throw Object.assign(new Error(`${path} is not a directory`), { code: "ENOTDIR" });
  const above = dirname(resolve(path));
  if (above !== path) await makeFolder(above);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  await syncDirectory(above).catch((error: NodeJS.ErrnoException) => {
    // A folder may be made in one that nobody may read, which cannot be flushed then.
    if (error.code !== "EACCES") throw error;
  });
}

/** A file's content: whole, or piece by piece so that it need not be in memory at once. */
export type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Where bytes go, one piece after the other. */
async function writeContent(handle: FileHandle, content: Content): Promise<void> {
  if (typeof content === "string" || content instanceof Uint8Array) await handle.writeFile(content);
  else for await (const piece of content) await writeFully(handle, piece);
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
}

async function writeAndSync(path: string, content: Content): Promise<void> {
  const handle = await open(path, "w");
  try {
    await writeContent(handle, content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * A file that is written beside its place, piece by piece, until `commit` flushes it and renames it there, or `discard` removes it: a reader sees
 * the old file or the new one, whole. All but `discard` throw FILE_UNWRITABLE, after which the file is discarded already.
 */
export class AtomicFile {
  readonly path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  static async open(path: string): Promise<AtomicFile> {
    try {
      await makeFolder(dirname(path));
      return new AtomicFile(path, await open(unfinishedName(path), "w"));
    } catch (error) {
      throw fileError(error, path, "write");
    }
  }

  /** Resolves once the system has the bytes, so that whoever waits for it runs no faster than the disk. One write at a time. */
  write(content: Content): Promise<void> {
    return this.#orDiscard(() => writeContent(this.#handle, content));
  }

  commit(): Promise<void> {
    return this.#orDiscard(async () => {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(unfinishedName(this.path), this.path);
      await syncDirectory(dirname(this.path));
    });
  }

  /** May be called at any time, and again; what was committed stays. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(unfinishedName(this.path), { force: true }).catch(() => undefined);
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

/** Writes a whole file as an `AtomicFile`. Throws FILE_UNWRITABLE, and whatever `content` throws. */
export async function writeFileAtomic(path: string, content: Content): Promise<void> {
  const file = await AtomicFile.open(path);
  await file.write(content);
  await file.commit();
}

/**
 * Writes a directory of files beside its place, one after another as they come, flushes them, then renames it there, replacing what stood there.
 * `addMore` may put further files, already on the disk, into the directory that it is given. Throws FILE_UNWRITABLE; the old directory
 * stays whole until the new one is.
 */
export async function writeDirectoryAtomic(
  path: string,
  files: Iterable<readonly [name: string, content: Content]> | AsyncIterable<readonly [name: string, content: Content]>,
  addMore: (unfinished: string) => Promise<void> = async () => {},
): Promise<void> {
  const unfinished = unfinishedName(path);
  try {
    await makeFolder(dirname(path));
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished);
    for await (const [name, content] of files) await writeAndSync(join(unfinished, name), content);
    await addMore(unfinished);
    await syncDirectory(unfinished);
    await replaceDirectory(unfinished, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true }).catch(() => undefined);
    throw fileError(error, path, "write");
  }
}

/** A rename cannot replace a directory that is not empty, so the old one steps aside first and goes last. */
async function replaceDirectory(from: string, to: string): Promise<void> {
  const aside = `${unfinishedName(to)}-old`;
  await rm(aside, { recursive: true, force: true });
  await rename(to, aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(from, to).catch(async (error: unknown) => {
    await rename(aside, to).catch(() => undefined);
    throw error;
  });
  await rm(aside, { recursive: true, force: true });
}

/** Removes a directory so that nobody ever sees a part of it: it goes aside first. Throws FILE_UNWRITABLE. */
export async function removeDirectory(path: string): Promise<void> {
  const aside = join(dirname(path), `.${basename(path)}.removed-${process.pid}`);
  try {
    await rm(aside, { recursive: true, force: true });
    await rename(path, aside);
    await rm(aside, { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, path, "write");
  }
}
