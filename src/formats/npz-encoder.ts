import { Zip, ZipPassThrough } from "fflate";
import { NextvladError } from "../base/errors.js";
import { type NumpyData, numpyDescr } from "./numpy-dtype.js";

/** An array and its key in the .npz. */
export interface NpzArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`, row-major. */
  readonly data: NumpyData;
}

/** Larger offsets need ZIP64. */
const MOST_BYTES = 2 ** 32 - 1;
/** Upper bound on a member's headers and directory entry, without its name, which is written twice. */
const MEMBER_BYTES = 256;
const PIECE_BYTES = 1 << 24;
/** The earliest date that ZIP supports, so that the same arrays always give the same file. */
const MODIFIED = new Date(1980, 0, 1);

/**
 * Encodes arrays as numpy.savez does: a ZIP of uncompressed .npy files. The pieces are views of the arrays' memory, which the next array may reuse. Throws
 * BAD_FORMAT if data do not fit their shape, or if the arrays have 4 GiB or more.
 */
export async function* encodeNpz(arrays: Iterable<NpzArray> | AsyncIterable<NpzArray>): AsyncGenerator<Uint8Array> {
  let total = 0;
  const ready: Uint8Array[] = [];
  const zip = new Zip((error, piece) => {
    if (error !== null) throw error;
    ready.push(piece);
  });
  for await (const { name, shape, data } of arrays) {
    total += data.byteLength + 2 * name.length + MEMBER_BYTES;
    if (total > MOST_BYTES) {
      const remedy = "use safetensors, which has no such limit";
      throw new NextvladError("BAD_FORMAT", "the arrays are too large for .npz", {
        expected: "less than 4 GiB",
        found: `${total} bytes`,
        remedy,
      });
    }
    const member = new ZipPassThrough(`${name}.npy`);
    member.mtime = MODIFIED;
    zip.add(member);
    member.push(encodeNpyHeader(shape, numpyDescr(shape, data)));
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      member.push(bytes.subarray(at, at + PIECE_BYTES));
      yield* ready.splice(0);
    }
    member.push(new Uint8Array(0), true);
  }
  zip.end();
  yield* ready.splice(0);
}

/** Returns the header of a .npy file, format version 1 (numpy.lib.format): a Python dict, padded so that the data start at a multiple of 64 bytes. */
function encodeNpyHeader(shape: readonly number[], descr: string): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + dict.length + 1) / 64) * 64 - 10;
  const head = Buffer.from("\x93NUMPY\x01\x00\0\0", "latin1");
  head.writeUInt16LE(length, 8);
  return Buffer.concat([head, Buffer.from(`${dict.padEnd(length - 1)}\n`, "latin1")]);
}
