import { lstat, readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Logger } from "pino";
import { fileError, NextvladError } from "../base/errors.js";
import { makeDirectory, removeDirectory, writeFileAtomic } from "../base/files.js";
import { readInput } from "../base/input.js";
import { removeLeftovers } from "../base/leftovers.js";
import { confirmLock, type DirectoryLock, LOCK_NAME, lockDirectory } from "../base/lock.js";
import { showText } from "../base/shown-value.js";
import { RESULT_FORMATS } from "../results/result-formats.js";
import { encodePartialState, type PartialState, parsePartialState } from "./partial-state.js";

const STATE_NAME = "state.json";
/** The file of a tally in a folder of partial results. */
export const TALLY_NAME = "tally.bin";

/** Reads the state in a folder of partial results; null if none was saved. Throws BAD_RESULTS, FILE_UNREADABLE. */
export async function readPartialState(folder: string): Promise<PartialState | null> {
  const file = join(folder, STATE_NAME);
  const text = await readInput(file).catch((error: NextvladError) => {
    if (error.code === "FILE_MISSING") return null;
    throw error;
  });
  return text === null ? null : parsePartialState(text.toString("utf8"), file);
}

/** Returns whether a folder of partial results may contain a file of this name. */
function isPartialResult(name: string): boolean {
  if ([STATE_NAME, LOCK_NAME, TALLY_NAME].includes(name)) return true;
  return /^\..*\.(unfinished|removed)-/.test(name) || Object.values(RESULT_FORMATS).some(({ extension }) => name.endsWith(extension));
}

/** The folder of partial results, beside their final paths: the results so far and the state that records how far they go. Locked for one run at a time. */
export class PartialFolder {
  readonly path: string;
  readonly #lock: DirectoryLock;
  /** True until it is known that there is no state: closing must not remove hours of results. */
  #hasState = true;

  private constructor(path: string, lock: DirectoryLock) {
    this.path = path;
    this.#lock = lock;
  }

  /**
   * Locks and opens the folder. Throws SAVE_DIR_TAKEN if another run uses it, FILE_UNWRITABLE (also if it is a link, or contains files of other kinds, which
   * would be removed with it).
   */
  static async open(path: string, log: Logger): Promise<PartialFolder> {
    if ((await lstat(path).catch(() => null))?.isSymbolicLink()) {
      const what = "the directory of partial results is a symbolic link, whose target would be cleared";
      throw new NextvladError("FILE_UNWRITABLE", what, { file: path, remedy: "remove the link" });
    }
    try {
      await removeLeftovers(dirname(path), new Set([basename(path)]));
      await makeDirectory(path);
    } catch (error) {
      throw fileError(error, path, "write");
    }
    const lock = await lockDirectory(path);
    if (lock.staleHolder !== null) log.info(`the previous run in this directory did not end normally: ${lock.staleHolder}`);
    await removeLeftovers(path);
    const foreign = (await readdir(path).catch(() => [])).find((name) => !isPartialResult(name));
    if (foreign !== undefined) {
      await lock.release();
      const what = `the directory of partial results contains another file, ${showText(foreign)}`;
      throw new NextvladError("FILE_UNWRITABLE", what, { file: path, remedy: "move it" });
    }
    return new PartialFolder(path, lock);
  }

  fileOf(name: string): string {
    return join(this.path, name);
  }

  /** Reads the state: see `readPartialState`. */
  async readState(): Promise<PartialState | null> {
    const state = await readPartialState(this.path);
    if (state === null) this.#hasState = false;
    return state;
  }

  /** Throws FILE_UNWRITABLE, and SAVE_DIR_TAKEN if another run has taken the folder over. */
  async writeState(state: PartialState): Promise<void> {
    await confirmLock(this.path, this.#lock.text);
    await writeFileAtomic(this.fileOf(STATE_NAME), encodePartialState(state));
    this.#hasState = true;
  }

  /** Removes everything that an earlier run left, the state first: without it, the other files are not used. Throws FILE_UNWRITABLE. */
  async clear(): Promise<void> {
    try {
      await rm(this.fileOf(STATE_NAME), { force: true });
      this.#hasState = false;
      for (const name of await readdir(this.path)) if (name !== LOCK_NAME) await rm(this.fileOf(name), { recursive: true });
    } catch (error) {
      throw fileError(error, this.path, "write");
    }
  }

  /** Removes the whole folder, after the results were moved to their final paths. */
  async remove(): Promise<void> {
    await removeDirectory(this.path);
    this.#hasState = false;
  }

  /** Releases the folder, and removes it if it has no state to resume from. Returns whether it is kept. */
  async close(): Promise<boolean> {
    // Do not remove the folder of another run that has taken it over.
    const isOwn = await confirmLock(this.path, this.#lock.text).then(
      () => true,
      () => false,
    );
    if (isOwn && !this.#hasState) await this.remove().catch(() => undefined);
    await this.#lock.release();
    return isOwn && this.#hasState;
  }
}
