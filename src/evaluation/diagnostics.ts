import { z } from "zod";
import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import type { Curves } from "./curves.js";
import { type Metrics, summarize } from "./metrics.js";
import type { MistakeList } from "./mistakes.js";

const FORMAT_VERSION = 1;

/** First characters of the file, by which our own files are recognized. */
export const DIAGNOSTICS_HEAD = '{\n "diagnostics_version":';

const count = z.int().min(0);
const classIndex = count;
/** JSON has no NaN. */
const measured = z.number().nullable();
const share = z.number().min(0).max(1);

const schema = z.object({
  /** The metrics of `Metrics`; null if NaN. */
  metrics: z.object({
    hit_at_one: measured,
    perr: measured,
    gap: measured,
    map: measured,
    loss: measured,
    videos: count,
    videos_without_labels: count.nullable(),
    /** Only with `--full-ranking`. */
    full_ranking: z.object({ map: measured, mauc: measured, d_prime: measured }).optional(),
    /** Only of rated segments. */
    segments: z.object({ map_at_k: measured }).optional(),
  }),
  /** The average precision, the number of videos and the name of each class. `names` is null without `--labels`, a name null if the list has none. */
  classes: z.object({ aps: z.array(share), videos: z.array(count), names: z.array(z.string().nullable()).nullable() }),
  precision_recall: z.object({ recall: z.array(share), precision: z.array(share), threshold: z.array(share) }),
  calibration: z.array(
    z.object({ from: share, to: share, predictions: count, mean_probability: share.nullable(), hit_share: share.nullable() }),
  ),
  /** These two are null if the mistakes of some videos are unknown: see `MistakeList.isComplete`. */
  confused_pairs: z.array(z.object({ label: classIndex, predicted: classIndex, videos: count })).nullable(),
  mistakes: z
    .array(
      z.object({
        id: z.string(),
        predicted: classIndex,
        probability: share,
        labels: z.array(classIndex),
        label_probabilities: z.array(share),
      }),
    )
    .nullable(),
});

/** What an evaluation measures besides its metrics, as in {MODEL.name}_eval_diagnostics.json. */
export type Diagnostics = Readonly<z.output<typeof schema>>;

export interface DiagnosticSources {
  readonly metrics: Metrics;
  readonly curves: Curves;
  /** `[classes]`: the number of videos with each class as label. */
  readonly positives: Float64Array;
  readonly nameOf: ((c: number) => string | null) | null;
  readonly mistakes: MistakeList;
}

/** Encodes diagnostics as the JSON of a file. */
export function encodeDiagnostics({ metrics, curves, positives, nameOf, mistakes }: DiagnosticSources): string {
  const { aps } = metrics;
  const names = nameOf === null ? null : Array.from(aps, (_, c) => nameOf(c));
  const diagnostics = {
    metrics: summarize(metrics),
    classes: { aps: Array.from(aps), videos: Array.from(positives), names },
    ...curves,
    confused_pairs: mistakes.isComplete ? mistakes.mostConfused() : null,
    mistakes: mistakes.isComplete ? mistakes.mostConfident() : null,
  };
  return `${JSON.stringify({ diagnostics_version: FORMAT_VERSION, ...diagnostics }, null, 1)}\n`;
}

/** Parses the text of a file that `encodeDiagnostics` has written. Throws BAD_FORMAT, with `file`. */
export function parseDiagnostics(text: string, file: string): Diagnostics {
  const remedy = "run eval again";
  const invalid = (what: string, details = {}) => new NextvladError("BAD_FORMAT", what, { file, remedy, ...details });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid("the diagnostics of an evaluation are not JSON", { found: showText((error as Error).message) });
  }
  const { diagnostics_version: version } = (value ?? {}) as { readonly diagnostics_version?: unknown };
  if (version !== FORMAT_VERSION) {
    const newer = typeof version === "number" && version > FORMAT_VERSION;
    throw invalid("unknown format version of the diagnostics", {
      expected: FORMAT_VERSION,
      found: showText(String(version)),
      ...(newer ? { remedy: "use the version of nextvlad that wrote them" } : {}),
    });
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw invalid("invalid diagnostics of an evaluation", { found: showText(`${issue?.path.join(".")}: ${issue?.message}`, 200) });
  }
  const problem = findMismatch(result.data);
  if (problem !== null) throw invalid("invalid diagnostics of an evaluation", { found: problem });
  return result.data;
}

/** Returns which arrays of the diagnostics do not fit together; null if all do. */
function findMismatch({ classes, precision_recall: curve, confused_pairs: pairs, mistakes }: Diagnostics): string | null {
  const { length } = classes.aps;
  if (classes.videos.length !== length || (classes.names ?? classes.aps).length !== length) return "different numbers of classes";
  if (curve.precision.length !== curve.recall.length || curve.threshold.length !== curve.recall.length)
    return "different numbers of points";
  if (mistakes?.some(({ labels, label_probabilities: found }) => labels.length !== found.length)) return "a label without a probability";
  const named = [
    ...(pairs ?? []).flatMap((pair) => [pair.label, pair.predicted]),
    ...(mistakes ?? []).flatMap((one) => [one.predicted, ...one.labels]),
  ];
  return named.some((c) => c >= length) ? "a class that the model does not have" : null;
}
