import { access, constants, lstat, readlink, rmdir, stat, statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { makeDirectory } from "../base/files.js";
import { describeKind } from "../base/output-checks.js";

/**
 * Runs `work`, which may create the directory and its parents. If it throws, removes those that did not exist before and are empty, so that a command that
 * fails at its start leaves nothing behind.
 */
export async function removeDirectoriesOnError<T>(path: string, work: () => Promise<T>): Promise<T> {
  const missing = await missingDirectories(resolve(path));
  try {
    return await work();
  } catch (error) {
    for (const directory of missing) await rmdir(directory).catch(() => undefined);
    throw error;
  }
}

/** Returns the missing directories among `path` and its parents, deepest first. */
async function missingDirectories(path: string): Promise<readonly string[]> {
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  return exists || dirname(path) === path ? [] : [path, ...(await missingDirectories(dirname(path)))];
}

/** Creates a directory for results if it is missing, before any long computation. Throws FILE_UNWRITABLE if it cannot be created or written to. */
export async function prepareDirectory(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found !== null && !found.isDirectory()) {
    const remedy = found.isFile() ? "use another path, or move the file" : "use another path";
    throw new NextvladError("FILE_UNWRITABLE", `expected a directory, found ${describeKind(found)}`, { file: path, remedy });
  }
  try {
    await makeDirectory(path);
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw await directoryError(path, error);
  }
  const kernel = await kernelFileSystem(path);
  if (kernel !== null) throw kernelError(path, kernel);
}

/**
 * Types of file systems (statfs(2)) that expose the kernel's state and store no files: mkdir in them fails with misleading errors, or creates a control group.
 */
const KERNEL_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x9fa0, "proc"],
  [0x62656572, "sysfs"],
  [0x27e0eb, "cgroup"],
  [0x63677270, "cgroup2"],
  [0x1cd1, "devpts"],
]);

/** Returns the name of the kernel's file system that contains `path`, or would contain it; null for other file systems. */
async function kernelFileSystem(path: string): Promise<string | null> {
  const info = await statfs(path).catch(() => null);
  if (info !== null) return KERNEL_FILE_SYSTEMS.get(info.type) ?? null;
  const above = dirname(resolve(path));
  return above === resolve(path) ? null : kernelFileSystem(above);
}

function kernelError(path: string, kernel: string, cause?: unknown): NextvladError {
  const what = `cannot write: this is the kernel's file system ${kernel}, which stores no files`;
  return new NextvladError("FILE_UNWRITABLE", what, { file: path, remedy: "use a directory on a disk" }, cause);
}

/** Returns the FILE_UNWRITABLE error for a directory that cannot be created or written to. */
async function directoryError(path: string, cause: unknown): Promise<NextvladError> {
  const kernel = await kernelFileSystem(path);
  if (kernel !== null) return kernelError(path, kernel, cause);
  const link = await lstat(path).then(
    (found) => (found.isSymbolicLink() ? readlink(path) : null),
    () => null,
  );
  if (link === null || (cause as NodeJS.ErrnoException).code !== "ENOENT") return fileError(cause, path, "write");
  const remedy = "use another path, or create the directory that the link points to";
  return new NextvladError("FILE_UNWRITABLE", `cannot write: it is a link to ${link}, which does not exist`, { file: path, remedy }, cause);
}
