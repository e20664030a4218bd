import { looksLikeTar } from "./tar.js";

/** A known file type that is not a shard, with a remedy for the user. */
export interface FileType {
  /** As in "this is a zip archive". */
  readonly name: string;
  /** A sentence without the closing period. */
  readonly remedy: string;
}

const UNPACK = "unpack it and pass the shards in it";
const WEIGHTS = "pass TFRecord shards here, and weights with --weights";

/** Signatures by format: hex strings at byte `at` of the file (default 0). */
const SIGNATURES: readonly (FileType & { readonly at?: number; readonly hex: readonly string[] })[] = [
  { name: "a zip archive", remedy: UNPACK, hex: ["504b0304", "504b0506", "504b0708"] },
  { name: "an xz file", remedy: UNPACK, hex: ["fd377a585a00"] },
  { name: "a bzip2 file", remedy: UNPACK, at: 4, hex: ["314159265359", "177245385090"] },
  { name: "a zstd file", remedy: UNPACK, hex: ["28b52ffd"] },
  { name: "an lz4 file", remedy: UNPACK, hex: ["04224d18"] },
  { name: "a gzip file", remedy: UNPACK, hex: ["1f8b08"] },
  { name: "a 7z archive", remedy: UNPACK, hex: ["377abcaf271c"] },
  { name: "a rar archive", remedy: UNPACK, hex: ["526172211a07"] },
  {
    name: "a numpy array (.npy)",
    remedy: "convert your own features to shards with nextvlad convert --csv",
    hex: ["934e554d5059"],
  },
  {
    name: "an HDF5 file",
    remedy: "save its arrays as .npy files, and convert them with nextvlad convert --csv",
    hex: ["894844460d0a1a0a"],
  },
  { name: "a Parquet file", remedy: "write its videos as TFRecord shards", hex: ["50415231"] },
  { name: "a video file (mp4)", remedy: "extract features from it first; this tool reads frame-level features", at: 4, hex: ["66747970"] },
];
const MAX_SAFETENSORS_HEADER = 100e6;

/** Returns the type of a file that does not start like a shard, by its first bytes (512 suffice); null if it is unknown. */
export function detectFileType(head: Uint8Array): FileType | null {
  if (looksLikeTar(head)) return { name: "a tar archive", remedy: UNPACK };
  const hex = Buffer.from(head.subarray(0, 16)).toString("hex");
  const found = SIGNATURES.find(({ at = 0, hex: signatures }) => signatures.some((signature) => hex.startsWith(signature, 2 * at)));
  if (found !== undefined) return { name: found.name, remedy: found.remedy };
  if (isSafetensors(head)) return { name: "a safetensors file (weights)", remedy: WEIGHTS };
  if (startsSequenceExample(head)) {
    return {
      name: "a SequenceExample outside a TFRecord (as MediaPipe's features.pb)",
      remedy:
        "convert it to a shard: nextvlad convert --to tfrecord --filelist FILE --feature-names RGB/feature/floats,AUDIO/feature/floats --out DIR (docs/own-features.md)",
    };
  }
  if (isOnnx(head)) return { name: "an ONNX model", remedy: WEIGHTS };
  return null;
}

/** A safetensors file begins with the length of its JSON header, as a little-endian uint64, and the header. */
function isSafetensors(head: Uint8Array): boolean {
  if (head.length < 10 || !/^\{[\s"}]/.test(Buffer.from(head.subarray(8, 10)).toString("latin1"))) return false;
  return new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true) < MAX_SAFETENSORS_HEADER;
}

/** A SequenceExample starts with a context or feature lists (field 1 or 2), a map entry (field 1), and the length and characters of its key (field 1). */
function startsSequenceExample(head: Uint8Array): boolean {
  if (head[0] !== 0x0a && head[0] !== 0x12) return false;
  const entry = skipVarint(head, 1);
  const key = skipVarint(head, entry + 1);
  const length = head[key + 1] ?? 0;
  if (head[entry] !== 0x0a || head[key] !== 0x0a || length === 0) return false;
  const name = head.subarray(key + 2, key + 2 + length);
  return name.length === length && name.every((byte) => byte >= 0x20 && byte < 0x7f);
}

function skipVarint(bytes: Uint8Array, start: number): number {
  let at = start;
  while ((bytes[at] ?? 0) >= 0x80) at++;
  return at + 1;
}

/** A ModelProto as exporters write it: ir_version (field 1, a small varint), then the length and characters of producer_name (field 2). */
function isOnnx(head: Uint8Array): boolean {
  const [tag, version = 0, nextTag, length = 0] = head;
  if (tag !== 0x08 || version === 0 || version >= 0x40 || nextTag !== 0x12 || length === 0) return false;
  const name = head.subarray(4, Math.min(4 + length, head.length));
  return name.every((byte) => byte >= 0x20 && byte < 0x7f);
}
