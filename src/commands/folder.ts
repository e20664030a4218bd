import { access, constants, rmdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { makeFolder } from "../base/files.js";

/** Does work that may make a folder, and those above it. If it throws, the folders that it made and left empty are removed: a command that fails at its start leaves nothing. */
export async function undoFolders<T>(path: string, work: () => Promise<T>): Promise<T> {
  const missing = await missingFolders(resolve(path));
  try {
    return await work();
  } catch (error) {
    for (const folder of missing) await rmdir(folder).catch(() => undefined);
    throw error;
  }
}

/** The folder and those above it that are not there, the deepest first. */
async function missingFolders(path: string): Promise<readonly string[]> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere || dirname(path) === path ? [] : [path, ...(await missingFolders(dirname(path)))];
}

/** Makes a folder for results where it is missing, before hours go into making them. Throws FILE_UNWRITABLE. */
export async function prepareFolder(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there !== null && !there.isDirectory()) {
    const remedy = "choose another place, or move the file away";
    throw new NextvladError("FILE_UNWRITABLE", "this should be a folder, and is a file", { file: path, remedy });
  }
  try {
    await makeFolder(path);
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw fileError(error, path, "write");
  }
}
