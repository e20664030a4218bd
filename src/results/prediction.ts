import { writeFileAtomic } from "../base/files.js";
import { encodePickledList, type PickleValue, Tuple } from "../formats/pickle-writer.js";

/** The most probable classes of one video. */
export interface Prediction {
  readonly id: string;
  /** Probabilities, falling; `[topk] float32`. */
  readonly scores: Float32Array;
  /** Their classes; `[topk] int32`. */
  readonly classes: Int32Array;
}

/** The name that PaddleVideo's infer.py gives its result. */
export const INFER_RESULT_NAME = "NEXTVLAD_infer_result.pkl";

/**
 * Writes a pickled list with one `(id, [probability, ...], [class, ...])` tuple a video, in PaddleVideo v1.5.1's order, loadable with a
 * bare `pickle.load` on Python 2 and 3. A probability is the float32's exact value. Replaces the file once the new one is whole. Throws
 * FILE_UNWRITABLE, and whatever `results` throws.
 */
export async function writeInferResult(path: string, results: Iterable<Prediction> | AsyncIterable<Prediction>): Promise<void> {
  await writeFileAtomic(path, encodePickledList(asTuples(results)));
}

async function* asTuples(results: Iterable<Prediction> | AsyncIterable<Prediction>): AsyncGenerator<PickleValue> {
  for await (const { id, scores, classes } of results) yield new Tuple(id, scores, classes);
}
