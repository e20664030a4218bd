import { z } from "zod";
import { NextvladError } from "../base/errors.js";
import { sealJson, unsealJson } from "../formats/sealed-json.js";

const count = z.int().min(0);

const stateSchema = z.strictObject({
  format_version: z.literal(1),
  /** All that decides what the results are, by the key or flag that says it. */
  work: z.record(z.string(), z.string()),
  /** What computed them: the last digits hang on it. */
  computed_by: z.string(),
  /** Batches and videos done. */
  batches: count,
  videos: count,
  /** The share of the shards' bytes that these stand for, 0..1. */
  fraction: z.number().min(0).max(1),
  /** Whether that is all, so that the files have only to be put in their places. */
  complete: z.boolean(),
  /** Sums over the videos done, float64 in base64; empty where there are none. */
  sums: z.base64(),
  /** The files of results, by name, up to there. */
  files: z.record(z.string(), z.strictObject({ bytes: count, crc32c: count })),
});

/** How far a pass over videos has come whose results are kept, and all that it takes to go on. */
export type PartialState = Omit<z.output<typeof stateSchema>, "format_version">;

const FRESH = "start from the beginning, without --resume";

/** The state's text, with its checksum. */
export function encodePartialState(state: PartialState): string {
  return sealJson({ format_version: 1, ...state });
}

/** Throws BAD_RESULTS. */
export function parsePartialState(text: string, file: string): PartialState {
  const sealed = unsealJson(text);
  if (sealed === null)
    throw new NextvladError("BAD_RESULTS", "the state of the partial results is no JSON object", { file, remedy: FRESH });
  const { rest, expected, found } = sealed;
  if (expected !== found) {
    const what = "the checksum of the partial results' state does not match";
    throw new NextvladError("BAD_RESULTS", what, { file, expected: String(expected), found, remedy: FRESH });
  }
  const result = stateSchema.safeParse(rest);
  if (!result.success) {
    const issue = result.error.issues[0];
    const what = `the state of the partial results does not fit: ${issue?.path.join(".")}: ${issue?.message}`;
    throw new NextvladError("BAD_RESULTS", what, { file, remedy: `${FRESH}, or use the version of nextvlad that wrote it` });
  }
  const { format_version: _, ...state } = result.data;
  return state;
}

/** Throws BAD_CONFIG at the first thing in which the work at hand is not the one that the results are of. A policy about damaged data may take the place of none. */
export function refuseOtherWork(then: PartialState["work"], now: PartialState["work"], file: string): void {
  for (const key of new Set([...Object.keys(now), ...Object.keys(then)])) {
    if (now[key] === then[key]) continue;
    // Without a policy, what is done has met no damage: whatever is done about it comes after.
    if (key.endsWith(".on_corrupt") && then[key] === "error") continue;
    const values = { expected: then[key] ?? "nothing", found: now[key] ?? "nothing" };
    const remedy = "leave it as it was, or start from the beginning, without --resume";
    throw new NextvladError("BAD_CONFIG", "what was stopped cannot go on with another value", { file, key, ...values, remedy });
  }
}
