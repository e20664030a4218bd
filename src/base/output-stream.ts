import { constants as FLAGS, write as fsWrite } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileError } from "./errors.js";
import type { Content } from "./files.js";
import { reportedWait } from "./waiting.js";

// Outputs that are not replaced but written to: pipes, terminals, standard output.

/** Descriptors that are already open in this process, by the paths that refer to them. */
const STANDARD_DESCRIPTORS: ReadonlyMap<string, number> = new Map(
  [1, 2].flatMap((descriptor) => [
    [`/dev/fd/${descriptor}`, descriptor] as const,
    [`/proc/self/fd/${descriptor}`, descriptor] as const,
    [descriptor === 1 ? "/dev/stdout" : "/dev/stderr", descriptor] as const,
  ]),
);

/** Returns whether a path is written to directly: standard output or error, a pipe, or a character device such as a terminal. */
export async function isStream(path: string): Promise<boolean> {
  if (STANDARD_DESCRIPTORS.has(path)) return true;
  const found = await stat(path).catch(() => null);
  return found !== null && (found.isFIFO() || found.isCharacterDevice());
}

const POLL_MS = 5;

/** Writes to a path for which `isStream` is true. Waits for a pipe's reader; a wait is reported within a second. Throws FILE_UNWRITABLE. */
export async function writeStream(path: string, content: Content): Promise<void> {
  const standard = STANDARD_DESCRIPTORS.get(path);
  let handle: FileHandle | null = null;
  try {
    handle = standard === undefined ? await openStream(path) : null;
    const descriptor = handle?.fd ?? (standard as number);
    if (typeof content === "string") await writeToDescriptor(descriptor, Buffer.from(content, "utf8"));
    else if (content instanceof Uint8Array) await writeToDescriptor(descriptor, content);
    else for await (const piece of content) await writeToDescriptor(descriptor, piece);
  } catch (error) {
    throw fileError(error, path, "write");
  } finally {
    await handle?.close();
  }
}

/** Polls with O_NONBLOCK: a blocking `open` would wait for a reader, and could not be interrupted. */
async function openStream(path: string): Promise<FileHandle> {
  let isAbandoned = false;
  const poll = async (): Promise<FileHandle> => {
    for (;;) {
      const handle = await open(path, FLAGS.O_WRONLY | FLAGS.O_NONBLOCK | FLAGS.O_NOCTTY).catch(async (error: NodeJS.ErrnoException) => {
        if (isAbandoned || error.code !== "ENXIO" || !(await stat(path)).isFIFO()) throw error;
        return null;
      });
      if (handle !== null) return handle;
      await sleep(POLL_MS);
    }
  };
  try {
    return await reportedWait(`a reader of the pipe ${path}`, poll(), 0);
  } finally {
    isAbandoned = true;
  }
}

async function writeToDescriptor(descriptor: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const written = await new Promise<number>((resolve, reject) => {
      fsWrite(descriptor, bytes, done, bytes.length - done, null, (error, count) => {
        if (error === null) resolve(count);
        else if (error.code === "EAGAIN") resolve(0);
        else reject(error);
      });
    });
    if (written === 0) await sleep(POLL_MS);
    done += written;
  }
}
