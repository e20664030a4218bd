/** The results that commands write; part of their file names. */
export type ResultKind =
  | "eval_result"
  | "eval_diagnostics"
  | "eval_predictions"
  | "infer_result"
  | "infer_segments"
  | "ensemble_result"
  | "ensemble_metrics";

/** Returns the file name of a result without its extension: `{MODEL.name}_infer_result`, as in PaddleVideo's infer.py. */
export function resultStem(model: string, kind: ResultKind): string {
  return `${model}_${kind}`;
}

/** The header of Kaggle's format (google/youtube-8m, inference.py). */
export const KAGGLE_HEADER = "VideoId,LabelConfidencePairs";
/** The same with our additional column, the names of the classes, if they are given. Kaggle does not accept it. */
export const NAMED_HEADER = `${KAGGLE_HEADER},LabelNames`;

/**
 * The result formats, by the value of `--format`. `content` says what a file contains. `head` is the beginning (Latin-1) of the files that we write, by which
 * we know which files we may replace. A new format also needs a codec in `RESULT_CODECS`.
 */
export const RESULT_FORMATS = {
  pickle: {
    extension: ".pkl",
    help: "pickle (PaddleVideo's)",
    content: "a pickled list of predictions",
    // Python's pickles of the same content begin differently, because they use a memo.
    head: "\x80\x02](",
  },
  csv: { extension: ".csv", help: "csv (Kaggle's)", content: `CSV with the header ${KAGGLE_HEADER}`, head: KAGGLE_HEADER },
  jsonl: { extension: ".jsonl", help: "jsonl", content: 'JSON lines {"id": ..., "predictions": ...}', head: '{"id":"' },
} as const;

const formats = Object.values(RESULT_FORMATS);

/** The formats in help and errors: with their origin, by name only, and by content. */
export const FORMAT_HELP = formats.map(({ help }) => help).join(", ");
export const FORMAT_NAMES = Object.keys(RESULT_FORMATS).join(", ");
export const FORMAT_CONTENTS = formats.map(({ content }) => content).join(" or ");

/** A value of `--format`. */
export type ResultFormat = keyof typeof RESULT_FORMATS;

/** Returns whether `--format` accepts the value. */
export function isResultFormat(word: string): word is ResultFormat {
  return Object.hasOwn(RESULT_FORMATS, word);
}
