import type { Readable } from "node:stream";
import type { Entry, ZipFile } from "yauzl";
import { fileError, NextvladError } from "../../base/errors.js";
import { requireRegularFile } from "../../base/input.js";
import { showText } from "../../base/shown-value.js";
import { encodeZip, type ZipMember } from "../containers/zip.js";
import { crc32 } from "../crc32.js";
import {
  encodeNpyHeader,
  MAX_NPY_BYTES,
  MAX_NPY_HEAD_BYTES,
  type NpyArray,
  type NpyData,
  type NpyHeader,
  parseNpy,
  parseNpyHeader,
} from "./npy.js";

const MAX_ENTRIES = 10_000;

/**
 * Reads one array of a .npz file (numpy.savez, numpy.savez_compressed: a zip of .npy files). `choose` gets the names of its arrays and returns one of them.
 * Throws FILE_MISSING, FILE_UNREADABLE, what `choose` throws, or BAD_FORMAT if the file is not a .npz file, is corrupt, or contains an array that `readNpy`
 * rejects.
 */
export async function readNpz(file: string, choose: (names: readonly string[]) => string): Promise<NpyArray> {
  const npz = await NpzFile.open(file);
  try {
    return await npz.read(choose(npz.names), MAX_NPY_BYTES);
  } finally {
    npz.close();
  }
}

/** A .npz file whose arrays are read on demand. All methods throw FILE_UNREADABLE and BAD_FORMAT. Close it after use. */
export class NpzFile {
  readonly path: string;
  readonly #zip: ZipFile;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(path: string, zip: ZipFile, entries: ReadonlyMap<string, Entry>) {
    this.path = path;
    this.#zip = zip;
    this.#entries = entries;
  }

  /** Opens a file. Also throws FILE_MISSING. */
  static async open(path: string): Promise<NpzFile> {
    await requireRegularFile(path);
    return translateErrors(path, async () => {
      const { openPromise } = await import("yauzl");
      const zip = await openPromise(path, { lazyEntries: true, autoClose: false });
      try {
        const entries = new Map<string, Entry>();
        let count = 0;
        for await (const entry of zip.eachEntry()) {
          if (++count > MAX_ENTRIES) {
            const details = { file: path, expected: `at most ${MAX_ENTRIES}`, found: "more" };
            throw new NextvladError("BAD_FORMAT", "the .npz file has too many entries", details);
          }
          if (entry.fileName.endsWith(".npy")) entries.set(entry.fileName.slice(0, -".npy".length), entry);
        }
        return new NpzFile(path, zip, entries);
      } catch (error) {
        zip.close();
        throw error;
      }
    });
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Returns an array's type and shape without reading all its data. */
  async describe(name: string): Promise<NpyHeader> {
    const entry = this.#find(name);
    return translateErrors(this.path, async () => {
      const stream = await this.#zip.openReadStreamPromise(entry);
      const head = await collect(stream, MAX_NPY_HEAD_BYTES);
      stream.destroy();
      return parseNpyHeader(head, this.#nameOf(entry));
    });
  }

  /** Reads a whole array whose .npy file has at most `maxBytes`. */
  async read(name: string, maxBytes: number): Promise<NpyArray> {
    const entry = this.#find(name);
    if (entry.uncompressedSize > maxBytes) {
      const details = { file: this.path, key: name, expected: `at most ${maxBytes} bytes`, found: entry.uncompressedSize };
      throw new NextvladError("BAD_FORMAT", "the array is too large", details);
    }
    return translateErrors(this.path, async () => {
      // Yauzl ends the stream with an error if it has more or fewer bytes than the entry says.
      const bytes = await collect(await this.#zip.openReadStreamPromise(entry));
      const checksum = crc32(bytes);
      if (checksum !== entry.crc32) {
        throw new NextvladError("BAD_FORMAT", "the array's checksum does not match", {
          file: this.path,
          key: name,
          expected: hex(entry.crc32),
          found: hex(checksum),
          remedy: "write the file again: its bytes have changed",
        });
      }
      return parseNpy(bytes, this.#nameOf(entry));
    });
  }

  close(): void {
    this.#zip.close();
  }

  #find(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new NextvladError("BAD_FORMAT", "array not found in the file", { file: this.path, key: name });
    return entry;
  }

  #nameOf({ fileName }: Entry): string {
    return `${this.path}: ${showText(fileName)}`;
  }
}

async function translateErrors<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NextvladError) throw error;
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw fileError(error, file, "read");
    const reason = (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
    const remedy = "write it again with numpy.savez or numpy.savez_compressed";
    throw new NextvladError("BAD_FORMAT", `not a .npz file, or corrupt: ${reason}`, { file, remedy }, error);
  }
}

/** Reads a stream to its end, or until it has returned at least `enough` bytes. */
async function collect(stream: Readable, enough = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of stream) {
    pieces.push(piece as Buffer);
    length += (piece as Buffer).length;
    if (length >= enough) break;
  }
  return Buffer.concat(pieces);
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}

/** An array and its key in the .npz. */
export interface NpzArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`, row-major. */
  readonly data: NpyData;
}

/**
 * Encodes arrays as numpy.savez does: a ZIP archive of uncompressed .npy files. The pieces are views of the arrays' memory, which the next array may reuse.
 * Throws BAD_FORMAT if data do not match their shape, or if the arrays have 4 GiB or more.
 */
export function encodeNpz(arrays: Iterable<NpzArray> | AsyncIterable<NpzArray>): AsyncGenerator<Uint8Array> {
  return encodeZip(encodeMembers(arrays));
}

async function* encodeMembers(arrays: Iterable<NpzArray> | AsyncIterable<NpzArray>): AsyncGenerator<ZipMember> {
  for await (const { name, shape, data } of arrays) yield { name: `${name}.npy`, parts: [encodeNpyHeader(shape, data), data] };
}
