import { z } from "zod";
import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { parseWithChecksum, stringifyWithChecksum } from "../formats/checksum.js";

const FORMAT_VERSION = 3;

const count = z.int().min(0);

const stateSchema = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  /** The settings that determine the results, by config key or flag. */
  work: z.record(z.string(), z.string()),
  /** The shards' modification times and checksums: see `ShardContents`. `corrupt` names the shard that ended the run. Older versions did not write it. */
  shards: z
    .strictObject({
      modified_ms: z.array(z.number()),
      ends_crc32c: z.array(z.string().nullable()),
      corrupt: z.string().optional(),
    })
    .nullable(),
  /** The software and device that computed them: the last digits depend on it. */
  computed_by: z.string(),
  /** Number of batches and videos done. */
  batches: count,
  videos: count,
  /** The fraction of the shards' bytes that was processed, 0 to 1. */
  fraction: z.number().min(0).max(1),
  /** Whether all videos are done, so that the files only have to be moved to their final paths. */
  complete: z.boolean(),
  /** Sums over the videos done, by name: float64 in base64. */
  sums: z.record(z.string(), z.base64()),
  /** The result files by name, with the length and checksum at this save. */
  files: z.record(z.string(), z.strictObject({ bytes: count, crc32c: count })),
});

/** How far a resumable pass over videos has come, and everything that resuming needs. */
export type PartialState = Omit<z.output<typeof stateSchema>, "format_version">;

/** Sums by name, float64. */
export type Sums = Readonly<Record<string, Float64Array>>;

const FRESH = "start from the beginning, without --resume";

/** Returns the text of a state, with its checksum. */
export function encodePartialState(state: PartialState): string {
  return stringifyWithChecksum({ format_version: FORMAT_VERSION, ...state });
}

/** Converts a state of an older format version to the next version. */
const UPGRADES: Readonly<Record<number, (state: Record<string, unknown>) => Record<string, unknown>>> = {
  1: nameSums,
  2: (state) => ({ ...state, format_version: 3, shards: null }),
};

/** Upgrades version 1, which had all sums in one array: four numbers, then the number of labels of each class. It did not count videos without labels: NaN. */
function nameSums(state: Record<string, unknown>): Record<string, unknown> {
  const all = decodeFloats(String(state.sums));
  const sums = { videos: all.subarray(0, 1), hit_at_one: all.subarray(1, 2), perr: all.subarray(2, 3), loss: all.subarray(3, 4) };
  const named = { ...sums, videos_without_labels: Float64Array.of(Number.NaN), positives: all.subarray(4) };
  return { ...state, format_version: 2, sums: all.length === 0 ? {} : encodeSums(named) };
}

/** Parses the text of a state of this format version or an older one. Throws BAD_RESULTS. */
export function parsePartialState(text: string, file: string): PartialState {
  const sealed = parseWithChecksum(text);
  if (sealed === null)
    throw new NextvladError("BAD_RESULTS", "the state of the partial results is not a JSON object", { file, remedy: FRESH });
  const { rest, expected, found } = sealed;
  const version = Number(rest.format_version);
  if (!(version === FORMAT_VERSION || version in UPGRADES)) {
    const values = { expected: `1 to ${FORMAT_VERSION}`, found: String(rest.format_version) };
    const remedy = `resume with the version of nextvlad that wrote them, or ${FRESH}`;
    throw new NextvladError("BAD_RESULTS", "unknown format version of the partial results", { file, ...values, remedy });
  }
  if (expected !== found) {
    const what = "the checksum of the partial results' state does not match";
    throw new NextvladError("BAD_RESULTS", what, { file, expected: String(expected), found, remedy: FRESH });
  }
  let state = rest;
  for (let from = version; from < FORMAT_VERSION; from++) state = UPGRADES[from]?.(state) ?? state;
  const result = stateSchema.safeParse(state);
  if (!result.success) {
    const issue = result.error.issues[0];
    const what = `invalid state of the partial results: ${showText(`${issue?.path.join(".")}: ${issue?.message}`, 200)}`;
    throw new NextvladError("BAD_RESULTS", what, { file, remedy: FRESH });
  }
  const { format_version: _, ...partial } = result.data;
  return partial;
}

/** Encodes sums for a state. */
export function encodeSums(sums: Sums): PartialState["sums"] {
  const encode = ({ buffer, byteOffset, byteLength }: Float64Array): string =>
    Buffer.from(buffer, byteOffset, byteLength).toString("base64");
  return Object.fromEntries(Object.entries(sums).map(([name, values]) => [name, encode(values)]));
}

/** Restores sums from a state. Throws BAD_RESULTS, without changing any sum, unless the state has exactly these names and lengths. */
export function restoreSums(sums: Sums, saved: PartialState["sums"], file: string): void {
  const decoded = Object.fromEntries(Object.entries(saved).map(([name, text]) => [name, decodeFloats(text)]));
  const [expected, found] = [formatSums(sums), formatSums(decoded)];
  if (expected !== found) {
    const what = "the sums in the partial results do not match this version of nextvlad";
    throw new NextvladError("BAD_RESULTS", what, { file, expected, found, remedy: FRESH });
  }
  for (const [name, values] of Object.entries(decoded)) sums[name]?.set(values);
}

function decodeFloats(text: string): Float64Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  return new Float64Array(bytes.buffer, 0, Math.floor(bytes.length / 8));
}

/** Formats sums by name and length: "positives (10 values), videos". */
function formatSums(sums: Sums): string {
  const names = Object.keys(sums).sort();
  return names.map((name) => (sums[name]?.length === 1 ? name : `${name} (${sums[name]?.length} values)`)).join(", ") || "none";
}

/** Throws BAD_CONFIG at the first setting that differs from the saved ones. The policy for corrupt data may change if it was `error`. */
export function assertSameSettings(saved: PartialState["work"], settings: PartialState["work"], file: string): void {
  for (const key of new Set([...Object.keys(settings), ...Object.keys(saved)])) {
    if (settings[key] === saved[key]) continue;
    // With `error`, the results so far contain no corrupt data, so another policy affects only the rest.
    if (key.endsWith(".on_corrupt") && saved[key] === "error") continue;
    const values = { expected: showText(saved[key] ?? "nothing"), found: showText(settings[key] ?? "nothing") };
    const remedy = `use the earlier value, or ${FRESH}`;
    throw new NextvladError("BAD_CONFIG", "a resumed run cannot change this setting", { file, key, ...values, remedy });
  }
}
