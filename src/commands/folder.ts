import { access, constants, stat } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { makeFolder } from "../base/files.js";

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
