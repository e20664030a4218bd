import { NextvladError } from "../base/errors.js";

/** What a file says of an array before it is read. */
export interface ArrayEntry {
  /** As numpy names it: `f4`. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** An array's content, row-major and little-endian. */
export interface RawArray extends ArrayEntry {
  readonly name: string;
  /** Good until the next array is asked for; may start anywhere, aligned for nothing. */
  readonly bytes: Uint8Array;
}

/** Weights in a file or directory, of whatever format: named arrays that can be read, in any number of passes. */
export interface WeightSource {
  /** As the user named it, or as it was found. */
  readonly path: string;
  /** What it is, in words: "a snapshot", "a directory of Paddle variables". */
  readonly form: string;
  /** Our own snapshot's directory, which brings config and state along; null for all else. */
  readonly snapshot: string | null;
  /** The config that an exported safetensors file carries, as YAML, unchecked. */
  readonly embeddedConfig?: string;
  readonly entries: ReadonlyMap<string, ArrayEntry>;
  /** Reads those of the named arrays that there are, in the source's own order, one in memory at a time where it can be. Throws FILE_UNREADABLE, BAD_FORMAT. */
  read(names: ReadonlySet<string>): AsyncGenerator<RawArray>;
  /** Lets go of files and memory. */
  close(): Promise<void>;
}

/** The values of an array of `f4`: a view where its bytes are aligned for one. Throws BAD_WEIGHTS for another type. */
export function floatsOf({ name, dtype, bytes }: RawArray, path: string): Float32Array {
  if (dtype !== "f4") {
    const details = { file: path, parameter: name, expected: "f4", found: dtype };
    throw new NextvladError("BAD_WEIGHTS", "the array has another type", details);
  }
  // Not slice(), which of a Buffer is no copy.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}
