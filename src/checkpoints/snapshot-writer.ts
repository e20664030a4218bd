import { dirname } from "node:path";
import { type Content, writeDirectoryAtomic } from "../base/files.js";
import { countValues } from "../base/numbers.js";
import { requireFreeSpace } from "../base/output-checks.js";
import { formatChecksum, stringifyWithChecksum } from "../formats/checksum.js";
import { crc32c } from "../formats/crc32.js";
import { encodeSafetensors, type NamedTensor } from "../formats/tensors/safetensors.js";
import type { StoredArray } from "../runtime/variables.js";
import { CONFIG_KEY } from "./safetensors-source.js";
import { CONFIG, EMA, FORMAT_VERSION, OPTIMIZER, STATE, WEIGHTS } from "./snapshot-layout.js";
import type { FileChecksums, RunState, SnapshotState, WrittenBy } from "./snapshot-state.js";

/** An array to be written; downloaded from the device when it is needed. */
export type ArraySource = Pick<StoredArray, "name" | "shape" | "download">;

/** The content of a snapshot. */
export interface SnapshotContent {
  readonly weights: Iterable<ArraySource>;
  /** Adam's moments, named as Paddle names them: `P_moment1_0`, `P_moment2_0`. */
  readonly moments: Iterable<ArraySource>;
  /** The moving averages of the weights; empty or omitted for none. */
  readonly ema?: Iterable<ArraySource>;
  readonly state: RunState;
  readonly configYaml: string;
  /** What writes the snapshot, for `state.json`; omitted if this program did not train the weights. */
  readonly writtenBy?: WrittenBy;
}

/** Space for headers, state and config, and file system overhead. */
const MARGIN_BYTES = 1 << 20;

/**
 * Writes a snapshot directory with the checksums of its files. Arrays are downloaded one at a time.
 * Throws FILE_UNWRITABLE; an existing snapshot at the path is then left unchanged. If there is too little free space, it throws before anything is written.
 */
export async function writeSnapshot(path: string, content: SnapshotContent): Promise<void> {
  const [weights, moments, ema] = [[...content.weights], [...content.moments], [...(content.ema ?? [])]];
  await requireFreeSpace(dirname(path), countBytes([...weights, ...moments, ...ema]) + MARGIN_BYTES);
  const checksums: Record<string, FileChecksums[string]> = {};
  const checked = (name: string, pieces: Iterable<Uint8Array>): [string, Content] => [name, noteChecksum(name, pieces, checksums)];
  const files = new Map<string, Content>([
    checked(WEIGHTS, encodeArrays(weights)),
    checked(OPTIMIZER, encodeArrays(moments)),
    // It has the config, so that the file can be used on its own.
    ...(ema.length === 0 ? [] : [checked(EMA, encodeArrays(ema, { [CONFIG_KEY]: content.configYaml }))]),
    checked(CONFIG, [Buffer.from(content.configYaml, "utf8")]),
    // Encoded last, when the checksums of the other files are known.
    [STATE, later(() => encodeState(content.state, content.writtenBy ?? null, checksums))],
  ]);
  await writeDirectoryAtomic(path, files);
}

/** Returns the size in bytes of float32 arrays. */
function countBytes(arrays: readonly ArraySource[]): number {
  return arrays.reduce((sum, { shape }) => sum + 4 * countValues(shape), 0);
}

function encodeArrays(arrays: readonly ArraySource[], metadata: Readonly<Record<string, string>> = {}): Iterable<Uint8Array> {
  const tensors = arrays.map(({ name, shape, ...array }): NamedTensor => ({ name, shape, dtype: "F32", data: () => array.download() }));
  return encodeSafetensors(tensors, metadata);
}

function* noteChecksum(name: string, pieces: Iterable<Uint8Array>, into: Record<string, FileChecksums[string]>): Generator<Uint8Array> {
  let [bytes, crc] = [0, 0];
  for (const piece of pieces) {
    bytes += piece.length;
    crc = crc32c(piece, crc);
    yield piece;
  }
  into[name] = { bytes, crc32c: formatChecksum(crc) };
}

function* later(text: () => string): Generator<Uint8Array> {
  yield Buffer.from(text(), "utf8");
}

/**
 * Returns the text of `state.json`: the state, followed by its checksum.
 * It is not in snapshot-state.ts, whose validation library takes a tenth of a second and a hundred files to load in the worker that writes snapshots.
 */
export function encodeState(run: RunState, writtenBy: WrittenBy | null, files: FileChecksums | null): string {
  const { step, epoch, step_in_epoch, seed, best, validated_epoch, validated_step, early_stopping, shards } = run;
  const state: SnapshotState = {
    format_version: FORMAT_VERSION,
    // The text omits undefined values.
    ...{ step, epoch, step_in_epoch, seed, best, validated_epoch, validated_step, early_stopping, shards },
    ...{ written_by: writtenBy, files },
  };
  return stringifyWithChecksum(state);
}
