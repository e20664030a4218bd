import { createHash } from "node:crypto";
import { type Attempt, describeCommand, KINDS, titleOf } from "./attempt.js";
import { MODEL } from "./base.js";
import { configAttempts } from "./kinds/configs.js";
import { environmentAttempts } from "./kinds/environments.js";
import { featureAttempts } from "./kinds/features.js";
import { flagAttempts } from "./kinds/flags.js";
import { limitAttempts } from "./kinds/limits.js";
import { listAttempts } from "./kinds/lists.js";
import { mutationAttempts } from "./kinds/mutations.js";
import { diskAttempts, outputAttempts } from "./kinds/outputs.js";
import { pickleAttempts } from "./kinds/pickles.js";
import { resultAttempts } from "./kinds/results.js";
import { signalAttempts } from "./kinds/signals.js";
import { snapshotAttempts } from "./kinds/snapshots.js";
import { streamAttempts } from "./kinds/streams.js";
import { tfrecordAttempts } from "./kinds/tfrecords.js";
import { weightAttempts } from "./kinds/weights.js";

/** Returns all attempts; deterministic for a given seed. Throws if two attempts have the same title. */
export function allAttempts(seed: number): readonly Attempt[] {
  const attempts = [
    ...tfrecordAttempts,
    ...pickleAttempts,
    ...featureAttempts,
    ...weightAttempts,
    ...configAttempts,
    ...listAttempts,
    ...resultAttempts,
    ...snapshotAttempts,
    ...outputAttempts,
    ...diskAttempts,
    ...limitAttempts,
    ...streamAttempts,
    ...signalAttempts,
    ...environmentAttempts,
    ...flagAttempts,
    ...mutationAttempts(seed),
  ];
  const titles = new Set<string>();
  for (const title of attempts.map(titleOf)) {
    if (titles.has(title)) throw new Error(`two attempts have the name ${title}`);
    titles.add(title);
  }
  return attempts;
}

export function usesModel(attempt: Attempt): boolean {
  return attempt.usesModel === true || describeCommand(attempt).includes(MODEL);
}

const SAMPLE_PER_KIND = 5;

/** Returns a few attempts of each kind: at most two minutes on two slow cores. */
export function sample(attempts: readonly Attempt[]): readonly Attempt[] {
  const fast = mix(attempts.filter(({ isSlow }) => isSlow !== true));
  return KINDS.flatMap((kind) => fast.filter((attempt) => attempt.kind === kind).slice(0, SAMPLE_PER_KIND));
}

/** Sorts attempts by a hash of their titles, so that any part of the list contains all kinds. */
export function mix(attempts: readonly Attempt[]): readonly Attempt[] {
  const rank = (attempt: Attempt): string => createHash("sha256").update(titleOf(attempt)).digest("hex");
  return attempts.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1));
}
