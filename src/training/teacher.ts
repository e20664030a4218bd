import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import type { Config } from "../config/schema.js";
import { add, multiply } from "../kernels/tensorflow-ops.js";
import { type Prediction, readResults } from "../results/result-codecs.js";
import { constant } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { fromFloats } from "../runtime/transfer.js";

/**
 * Another model's probabilities q of the training videos, which soften the labels y: the targets are (1 - weight) y + weight q (Hinton, Vinyals, Dean:
 * "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, at temperature 1). The cross entropy is linear in its targets, so this is the weighted sum
 * of the cross entropies with y and with q. A class that the teacher's file does not list has q = 0.
 */
export class Teacher {
  readonly #weight: number;
  readonly #classes: number;
  readonly #files: readonly string[];
  /** By video ID. Each listed class takes 8 bytes. */
  readonly #predictions = new Map<string, Pick<Prediction, "scores" | "classes">>();

  private constructor(weight: number, classes: number, files: readonly string[]) {
    this.#weight = weight;
    this.#classes = classes;
    this.#files = files;
  }

  /**
   * Reads the result files of TRAIN.teacher; returns null if there are none. Throws what reading throws, and BAD_RESULTS if a video occurs twice, or a class is
   * not one of MODEL.num_classes.
   */
  static async read({ MODEL, TRAIN }: Pick<Config, "MODEL" | "TRAIN">): Promise<Teacher | null> {
    if (TRAIN.teacher === null) return null;
    const files = [TRAIN.teacher].flat();
    const teacher = new Teacher(TRAIN.teacher_weight, MODEL.num_classes, files);
    for (const file of files) for await (const prediction of readResults(file)) teacher.#add(prediction, file);
    return teacher;
  }

  #add({ id, scores, classes }: Prediction, file: string): void {
    const place = { file, key: "TRAIN.teacher", video: escapeBytes(id) };
    const unknown = classes.find((c) => c >= this.#classes);
    if (unknown !== undefined) {
      const remedy = "use a teacher of the same classes";
      const values = { expected: `less than MODEL.num_classes = ${this.#classes}`, found: unknown };
      throw new NextvladError("BAD_RESULTS", "the teacher predicts an unknown class", { ...place, ...values, remedy });
    }
    if (this.#predictions.has(id)) {
      const remedy = "average several teachers with nextvlad ensemble first";
      throw new NextvladError("BAD_RESULTS", "the teacher's results have a video twice", { ...place, remedy });
    }
    this.#predictions.set(id, { scores, classes });
  }

  /** Returns the targets of a batch `[videos, classes]`. Takes ownership of its labels, of the same shape. Throws BAD_RESULTS if videos are missing. */
  soften(labels: Tensor, ids: readonly string[]): Tensor {
    const missing = ids.filter((id) => !this.#predictions.has(id));
    const [example] = missing;
    if (example !== undefined) {
      const what = `${missing.length} of ${ids.length} videos of a batch are missing in the teacher's results, such as ${escapeBytes(example)}`;
      const remedy = "predict all training videos with the teacher: nextvlad infer with the --filelist of the training";
      throw new NextvladError("BAD_RESULTS", what, { file: this.#files.join(", "), key: "TRAIN.teacher", remedy });
    }
    const soft = new Float32Array(ids.length * this.#classes);
    for (const [video, id] of ids.entries()) {
      const { scores, classes } = this.#predictions.get(id) as Prediction;
      for (const [rank, c] of classes.entries()) soft[video * this.#classes + c] = this.#weight * (scores[rank] as number);
    }
    const targets = tidy(() => add(multiply(labels, constant(1 - this.#weight)), fromFloats(soft, [ids.length, this.#classes])));
    labels.dispose();
    return targets;
  }
}
