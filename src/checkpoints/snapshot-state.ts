import { z } from "zod";
import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { parseWithChecksum } from "../formats/checksum.js";
import { FORMAT_VERSION } from "./snapshot-layout.js";

const checksum = z.string().regex(/^[0-9a-f]{8}$/);

const runSchema = z.strictObject({
  /** Steps taken. */
  step: z.int().min(0),
  /** Finished epochs, which is also the index of the next epoch to train. */
  epoch: z.int().min(0),
  /** Steps taken in the current epoch, 0 at its start. */
  step_in_epoch: z.int().min(0),
  seed: z.int().min(0),
  /** The step at which TRAIN.ema_decay began, if it is not the first one: that of Paddle's weights, which have no averages. */
  ema_from: z.int().min(0).optional(),
  /** The best validation so far. */
  best: z
    .strictObject({
      epoch: z.int().min(0),
      gap: z.number(),
      /** With --full-ranking: the mAP over the full ranking, which then decides. */
      map: z.number().optional(),
      /** With an interval in steps: the number of steps at that time. */
      step: z.int().min(0).optional(),
    })
    .nullable(),
  /** The last epoch that was validated. If a run was stopped before validation, it validates after it is resumed. */
  validated_epoch: z.int().min(0).nullable(),
  /** With an interval in steps: the number of steps at the last validation. */
  validated_step: z.int().min(0).optional(),
  /** With --early-stop: the metric that is watched, its highest value so far, and the number of validations since. */
  early_stopping: z.strictObject({ metric: z.enum(["gap", "map"]), best: z.number(), since: z.int().min(0) }).optional(),
  /**
   * The list of shards, which determines the order of videos: the number of shards, and the CRC-32C of their names and sizes in list order.
   * `corrupt` names the shard that ended the run; its size is not part of the checksum, because a valid copy may have another size.
   */
  shards: z
    .strictObject({
      count: z.int(),
      crc32c: checksum,
      corrupt: z.string().optional(),
      /** For each shard: see `ShardContents`. Older versions did not write it. */
      contents: z.strictObject({ modified_ms: z.array(z.number()), ends_crc32c: z.array(checksum.nullable()) }).optional(),
      /** The videos of an epoch: see `ListFingerprint`. Only in runs whose learning rate depends on it. */
      videos: z.int().min(0).optional(),
      /** With --limit-videos: its value. */
      limit_videos: z.int().min(1).optional(),
      /** The first record of each shard that was skipped as corrupt in this epoch: see `ListFingerprint`. Older versions did not write it. */
      first_corrupt: z.array(z.strictObject({ shard: z.int().min(0), record: z.int().min(0) })).optional(),
    })
    .nullable(),
});

/** A file of the snapshot, as written. */
const fileSchema = z.strictObject({ bytes: z.int().min(0), crc32c: checksum });

const stateSchema = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  ...runSchema.shape,
  /**
   * What wrote the snapshot: resuming is bit-for-bit reproducible only with the same TensorFlow, device, processor level, and numbers of threads, ranks and parts.
   */
  written_by: z
    .strictObject({
      nextvlad: z.string(),
      node: z.string(),
      tensorflow: z.string(),
      device: z.string(),
      /** Of the CPU kernels: see `Rounding`. Older versions did not write them. */
      level: z.string().regex(/^\w+$/).optional(),
      threads: z.int().min(1).optional(),
      /** See `TrainingRounding`. Older versions did not write them. */
      ranks: z.int().min(1).optional(),
      parts: z.int().min(1).optional(),
    })
    .nullable(),
  /** The other files of the snapshot, by name; null if an older version wrote no checksums. */
  files: z.record(z.string(), fileSchema).nullable(),
});

/** The state of a run: with the weights, the moments and the config, it determines how the run continues. */
export type RunState = z.output<typeof runSchema>;

/** What wrote a snapshot. */
export type WrittenBy = NonNullable<z.output<typeof stateSchema>["written_by"]>;

/** Length and checksum of each file of a snapshot, by name. */
export type FileChecksums = Readonly<Record<string, z.output<typeof fileSchema>>>;

/** The content of `state.json`. */
export type SnapshotState = z.output<typeof stateSchema>;

/** Converts the state of each older format version to the next version. */
const UPGRADES: Readonly<Record<number, (state: object) => object>> = {
  1: (state) => ({ ...state, format_version: 2, shards: null, written_by: null, files: null }),
  // Version 3 adds `shards.contents`.
  2: (state) => ({ ...state, format_version: 3 }),
  // Version 4 adds `shards.first_corrupt`.
  3: (state) => ({ ...state, format_version: 4 }),
  // Version 5 adds `written_by.level` and `written_by.threads`.
  4: (state) => ({ ...state, format_version: 5 }),
  // Version 6 adds `written_by.ranks` and `written_by.parts`.
  5: (state) => ({ ...state, format_version: 6 }),
  // Version 7 adds `best.map`, `best.step`, `validated_step`, `early_stopping`, `ema_from`, `shards.videos` and `shards.limit_videos`.
  6: (state) => ({ ...state, format_version: 7 }),
};

/** Parses the text of a `state.json` of this format version or an older one. Throws BAD_SNAPSHOT. */
export function parseState(text: string, file: string): SnapshotState {
  const sealed = parseWithChecksum(text);
  if (sealed === null) throw new NextvladError("BAD_SNAPSHOT", "not a JSON object", { file, remedy: "use another snapshot" });
  const { rest, expected, found } = sealed;
  const version = Number(rest.format_version);
  if (!(version === FORMAT_VERSION || version in UPGRADES)) {
    const remedy = version > FORMAT_VERSION ? "use the version of nextvlad that wrote it, or a newer one" : "use another snapshot";
    const [expected, found] = [`1 to ${FORMAT_VERSION}`, String(rest.format_version)];
    throw new NextvladError("BAD_SNAPSHOT", "unknown format version", { file, expected, found, remedy });
  }
  if (version >= 2 && expected !== found) {
    const remedy = "use another snapshot";
    throw new NextvladError("BAD_SNAPSHOT", "checksum mismatch: the state has changed since it was written", {
      file,
      expected: String(expected),
      found,
      remedy,
    });
  }
  let state: object = rest;
  for (let from = version; from < FORMAT_VERSION; from++) state = UPGRADES[from]?.(state) ?? state;
  const result = stateSchema.safeParse(state);
  if (result.success) {
    requireConsistent(result.data, file);
    return result.data;
  }
  const issue = result.error.issues[0];
  const path = issue?.path ?? [];
  const value = path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key], state);
  throw corrupt(file, path.join("."), showText(issue?.message ?? "", 200), JSON.stringify(value) ?? "nothing");
}

const MAX_GAP = 1 + 1e-6;

/** Throws BAD_SNAPSHOT if a file name is a path outside of the snapshot, or if numbers contradict each other. */
function requireConsistent(state: SnapshotState, file: string): void {
  const { step, epoch, step_in_epoch, best, validated_epoch, validated_step, shards, files } = state;
  for (const name of Object.keys(files ?? {})) {
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) {
      throw corrupt(file, "files", "expected the name of a file in the snapshot", name);
    }
  }
  const assertAtMost = (key: string, value: number, maximum: number, why: string): void => {
    if (value > maximum) throw corrupt(file, key, `expected at most ${maximum}, ${why}`, value);
  };
  assertAtMost("step_in_epoch", step_in_epoch, step, "the number of steps of all epochs");
  assertAtMost("validated_epoch", validated_epoch ?? -1, epoch - 1, "the last finished epoch");
  if (best?.step === undefined) assertAtMost("best.epoch", best?.epoch ?? -1, epoch - 1, "the last finished epoch");
  else assertAtMost("best.epoch", best.epoch, epoch, "the current epoch");
  assertAtMost("best.step", best?.step ?? 0, step, "the number of steps of all epochs");
  assertAtMost("validated_step", validated_step ?? 0, step, "the number of steps of all epochs");
  if (best !== null && !(best.gap >= 0 && best.gap <= MAX_GAP)) throw corrupt(file, "best.gap", "expected 0 to 1", best.gap);
  if (shards !== null && shards.count < 1) throw corrupt(file, "shards.count", "expected 1 or more", shards.count);
  for (const [key, list] of Object.entries(shards?.contents ?? {})) {
    if (list.length !== shards?.count) throw corrupt(file, `shards.contents.${key}`, `expected ${shards?.count} values`, list.length);
  }
  for (const { shard } of shards?.first_corrupt ?? []) {
    assertAtMost("shards.first_corrupt", shard, (shards?.count ?? 0) - 1, "the last shard's index");
  }
}

function corrupt(file: string, key: string, expected: string, found: string | number): NextvladError {
  const remedy = "use another snapshot (--resume without a path finds the newest valid one)";
  return new NextvladError("BAD_SNAPSHOT", `corrupt snapshot state: ${expected}`, { file, key, found, remedy });
}
