import { readLabelNames } from "../../../src/results/label-names.js";
import { readSegmentClasses } from "../../../src/results/segment-lists.js";
import type { Target } from "../target.js";

const CLASSES = 12;

/** Reads the classes of segments. Throws an Error that counts as a finding if they are not ascending classes of the model. */
async function readValidClasses(file: string): Promise<void> {
  const classes = await readSegmentClasses(file, CLASSES);
  for (const [i, c] of classes.entries())
    if (c < 0 || c >= CLASSES || (i > 0 && c <= (classes[i - 1] as number))) throw new Error(`classes ${classes.join()}`);
}

export const target: Target = {
  readers: [(file) => readLabelNames(file, CLASSES), (file) => readLabelNames(file, null), readValidClasses],
};
