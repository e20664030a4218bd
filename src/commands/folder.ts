import { access, constants, mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";

/** Makes a folder for results where it is missing, before hours go into making them. Throws FILE_UNWRITABLE. */
export async function prepareFolder(path: string): Promise<void> {
  try {
    await makeFolder(resolve(path));
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw fileError(error, path, "write");
  }
}

/** Node's own recursive mkdir spins for ever where a folder is there and takes no new ones (in /proc, say: seen with Node.js 20). */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return refuseFile(path);
    if (code !== "ENOENT" || (await exists(dirname(path)))) throw error;
    await makeFolder(dirname(path));
    await mkdir(path);
  }
}

async function refuseFile(path: string): Promise<void> {
  if ((await stat(path)).isDirectory()) return;
  const remedy = "choose another place, or move the file away";
  throw new NextvladError("FILE_UNWRITABLE", "this should be a folder, and is a file", { file: path, remedy });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
