import type { Readable } from "node:stream";
import { crc32 } from "@node-rs/crc32";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import { fileError, NextvladError } from "../base/errors.js";
import { type NpyArray, parseNpy } from "./npy.js";

/** A day of float64 frames is 0.7 GB. A larger array than this is refused, so that a small file that swells cannot take all memory. */
const MAX_ARRAY_BYTES = 2 ** 30;

/**
 * Reads one array of a .npz file (numpy.savez, numpy.savez_compressed: a zip of .npy files). `choose` is given the names of its arrays and names one.
 * Throws FILE_MISSING, FILE_UNREADABLE, what `choose` throws, or BAD_FORMAT for what is no such file, is damaged, or holds an array that `readNpy` refuses.
 */
export async function readNpz(file: string, choose: (names: readonly string[]) => string): Promise<NpyArray> {
  try {
    const zip = await openPromise(file, { lazyEntries: true, autoClose: false });
    try {
      return await readChosen(zip, file, choose);
    } finally {
      zip.close();
    }
  } catch (error) {
    if (error instanceof NextvladError) throw error;
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw fileError(error, file, "read");
    const reason = (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
    const remedy = "write it again with numpy.savez or numpy.savez_compressed";
    throw new NextvladError("BAD_FORMAT", `this is no .npz file, or it is damaged: ${reason}`, { file, remedy }, error);
  }
}

async function readChosen(zip: ZipFile, file: string, choose: (names: readonly string[]) => string): Promise<NpyArray> {
  const entries = new Map<string, Entry>();
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith(".npy")) entries.set(entry.fileName.slice(0, -".npy".length), entry);
  }
  const name = choose([...entries.keys()]);
  const entry = entries.get(name);
  if (entry === undefined) throw new NextvladError("BAD_FORMAT", "there is no such array in the file", { file, key: name });
  if (entry.uncompressedSize > MAX_ARRAY_BYTES) {
    const details = { file, key: name, expected: `at most ${MAX_ARRAY_BYTES} bytes`, found: entry.uncompressedSize };
    throw new NextvladError("BAD_FORMAT", "the array is impossibly long for a video's frames", details);
  }
  // Yauzl ends the stream with an error where more or fewer bytes come than the entry says.
  const bytes = await collect(await zip.openReadStreamPromise(entry));
  const checksum = crc32(bytes);
  if (checksum !== entry.crc32) {
    const details = {
      file,
      key: name,
      expected: hex(entry.crc32),
      found: hex(checksum),
      remedy: "write the file again: its bytes have changed",
    };
    throw new NextvladError("BAD_FORMAT", "the array's checksum does not match", details);
  }
  return parseNpy(bytes, `${file}: ${entry.fileName}`);
}

async function collect(stream: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
