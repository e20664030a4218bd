import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileError } from "./errors.js";

/** The name that a file or directory has until it is whole: beside its place, hidden, and this process's own. */
function unfinishedName(path: string): string {
  return join(dirname(path), `.${basename(path)}.unfinished-${process.pid}`);
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

/** Makes a folder and those above it, where missing. Node's own recursive mkdir never returns in a folder that takes none (/proc/x, Node 20 and 24). */
export async function makeFolder(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there?.isDirectory()) return;
  if (there !== null) throw Object.assign(new Error(`${path} is not a directory`), { code: "ENOTDIR" });
  const above = dirname(resolve(path));
  if (above !== path) await makeFolder(above);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
}

/** A file's content: whole, or piece by piece so that it need not be in memory at once. */
export type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeAndSync(path: string, content: Content): Promise<void> {
  const handle = await open(path, "w");
  try {
    if (typeof content === "string" || content instanceof Uint8Array) await handle.writeFile(content);
    else for await (const piece of content) await writeFully(handle, piece);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
}

/** Writes a file beside its place, flushes it, then renames it there: a reader sees the old file or the new one, whole. Throws FILE_UNWRITABLE. */
export async function writeFileAtomic(path: string, content: Content): Promise<void> {
  const unfinished = unfinishedName(path);
  try {
    await makeFolder(dirname(path));
    await writeAndSync(unfinished, content);
    await rename(unfinished, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw fileError(error, path, "write");
  }
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
