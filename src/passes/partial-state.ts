import { z } from "zod";
import { type ErrorDetails, NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { findKey } from "../config/keys.js";
import { parseWithChecksum, stringifyWithChecksum } from "../formats/checksum.js";

const FORMAT_VERSION = 4;

const count = z.int().min(0);

const float64Array = z.custom<Float64Array>((value) => value instanceof Float64Array);
/** An array in memory, base64 of its bytes in the file. */
const floats = z.codec(z.base64(), float64Array, {
  decode: (text) => {
    const bytes = new Uint8Array(Buffer.from(text, "base64"));
    return new Float64Array(bytes.buffer, 0, Math.floor(bytes.length / 8));
  },
  encode: ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength).toString("base64"),
});

/** Sums over the videos done, by name. */
const sumsSchema = z.record(z.string(), floats);
export type Sums = Readonly<z.output<typeof sumsSchema>>;

const stateSchema = z.strictObject({
  /** The settings that determine the results, by config key or flag. */
  work: z.record(z.string(), z.string()),
  /** The shards' modification times and checksums: see `ShardContents`. `corrupt` names the shard that ended the run. Null: written by version 1 or 2. */
  shards: z
    .strictObject({
      modified_ms: z.array(z.number()),
      ends_crc32c: z.array(z.string().nullable()),
      corrupt: z.string().optional(),
    })
    .nullable(),
  /** What computed them: see `Rounding`. Older versions did not record the level and the number of threads. */
  computed_by: z.string(),
  level: z.string().regex(/^\w+$/).optional(),
  threads: z.int().min(1).optional(),
  /** Number of batches and videos done. */
  batches: count,
  videos: count,
  /** The fraction of the shards' bytes that was processed, 0 to 1. */
  fraction: z.number().min(0).max(1),
  /** Whether all videos are done, so that the files only have to be moved to their final paths. */
  complete: z.boolean(),
  sums: sumsSchema,
  /** The result files by name, with their length and CRC-32C at this save. */
  files: z.record(z.string(), z.strictObject({ bytes: count, crc32c: count })),
});

/** How far a resumable pass over videos has come, and everything that resuming needs. */
export type PartialState = z.output<typeof stateSchema>;

const REMEDY = "start from the beginning, without --resume";

/** Returns a BAD_RESULTS error about a file of partial results. */
export function badResults(what: string, file: string, details: ErrorDetails = {}, cause?: unknown): NextvladError {
  return new NextvladError("BAD_RESULTS", what, { file, remedy: REMEDY, ...details }, cause);
}

/** Returns the text of a state, with its checksum. */
export function encodePartialState(state: PartialState): string {
  return stringifyWithChecksum({ format_version: FORMAT_VERSION, ...state, sums: z.encode(sumsSchema, state.sums) });
}

/** Parses the text of a state of this format version or an older one. Throws BAD_RESULTS. */
export function parsePartialState(text: string, file: string): PartialState {
  const parsed = parseWithChecksum(text);
  if (parsed === null) throw badResults("the state of the partial results is not a JSON object", file);
  const { rest, expected, found } = parsed;
  const { format_version: version, ...state } = rest;
  if (version !== 1 && version !== 2 && version !== 3 && version !== FORMAT_VERSION) {
    const remedy = `resume with the version of nextvlad that wrote them, or ${REMEDY}`;
    const details = { expected: `1 to ${FORMAT_VERSION}`, found: String(version), remedy };
    throw badResults("unknown format version of the partial results", file, details);
  }
  if (expected !== found) {
    throw badResults("the checksum of the partial results' state does not match", file, { expected: String(expected), found });
  }
  const result = stateSchema.safeParse(upgrade(version, state));
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw badResults(`invalid state of the partial results: ${showText(`${issue?.path.join(".")}: ${issue?.message}`, 200)}`, file);
}

/** Converts a state of an older format version to the current one. */
function upgrade(version: number, state: Record<string, unknown>): Record<string, unknown> {
  if (version === 1) return upgrade(2, { ...state, sums: nameSums(String(state.sums)) });
  return version === 2 ? { ...state, shards: null } : state;
}

/** Names the sums of version 1: four numbers, then the labels of each class. It did not count videos without labels: NaN. */
function nameSums(text: string): Record<string, string> {
  const all = z.decode(floats, text);
  if (all.length === 0) return {};
  const totals = ["videos", "hit_at_one", "perr", "loss"].map((name, i) => [name, all.subarray(i, i + 1)] as const);
  const sums = { ...Object.fromEntries(totals), videos_without_labels: Float64Array.of(Number.NaN), positives: all.subarray(4) };
  return z.encode(sumsSchema, sums);
}

/** Copies saved sums to `sums`. Throws BAD_RESULTS, without changing any sum, unless both have the same names and lengths. */
export function restoreSums(sums: Sums, saved: Sums, file: string): void {
  const [expected, found] = [formatSums(sums), formatSums(saved)];
  const what = "the sums in the partial results do not match this version of nextvlad";
  if (expected !== found) throw badResults(what, file, { expected, found });
  for (const [name, values] of Object.entries(saved)) sums[name]?.set(values);
}

/** Formats sums by name and length: "positives (10 values), videos". */
function formatSums(sums: Sums): string {
  const names = Object.keys(sums).sort();
  return names.map((name) => (sums[name]?.length === 1 ? name : `${name} (${sums[name]?.length} values)`)).join(", ") || "none";
}

/**
 * Throws BAD_CONFIG at the first setting that differs from the saved ones. The policy for corrupt data may change if it was `error`. A config key that the version
 * that saved them did not have had its default.
 */
export function assertSameSettings(saved: PartialState["work"], settings: PartialState["work"], file: string): void {
  for (const key of new Set([...Object.keys(settings), ...Object.keys(saved)])) {
    const before = saved[key] ?? defaultOf(key);
    if (settings[key] === before) continue;
    // With `error`, the results so far contain no corrupt data, so another policy affects only the rest.
    if (key.endsWith(".on_corrupt") && saved[key] === "error") continue;
    const values = { expected: showText(before ?? "nothing"), found: showText(settings[key] ?? "nothing") };
    const remedy = `use the earlier value, or ${REMEDY}`;
    throw new NextvladError("BAD_CONFIG", "a resumed run cannot change this setting", { file, key, ...values, remedy });
  }
}

/** Returns the default of a config key as text; undefined for anything else. */
function defaultOf(key: string): string | undefined {
  const [section = "", name = ""] = key.split(".");
  const found = findKey(section, name);
  return found && String(found.default);
}
