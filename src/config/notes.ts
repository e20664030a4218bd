import type { Config } from "./schema.js";

/** Returns log lines, for users of PaddleVideo, about keys that this config sets and that have no effect. */
export function noteUnusedKeys({ MODEL, TRAIN }: Config): readonly string[] {
  const notes: string[] = [];
  if (MODEL.name === "NETVLAD") notes.push("MODEL.groups and MODEL.expansion have no effect: NETVLAD has neither, and both are 1");
  if (TRAIN.gradient_clip_norm !== null) {
    notes.push(
      `TRAIN.gradient_clip_norm = ${TRAIN.gradient_clip_norm} is not applied, as in PaddleVideo, whose published accuracy was had without; TRAIN.gradient_clip does clip`,
    );
  }
  if (TRAIN.num_gpus > 1) {
    notes.push(`TRAIN.num_gpus = ${TRAIN.num_gpus} changes nothing: one device computes the whole batch of ${TRAIN.batch_size}`);
  }
  return notes;
}

/** Returns warnings about settings with which training is likely to fail. */
export function warnOfSettings({ TRAIN }: Config): readonly string[] {
  if (TRAIN.batch_size > 1) return [];
  const why =
    "batch normalization then uses statistics of a single video, whose variance is 0 after pooling, so validation does not match training";
  return [`TRAIN.batch_size = 1: ${why}; use at least 16 (the published recipe uses 160)`];
}
