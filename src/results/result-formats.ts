/** The results that commands write; part of their file names. */
export type ResultKind = "eval_result" | "eval_predictions" | "infer_result" | "ensemble_result" | "ensemble_metrics";

/** Returns the file name of a result without its extension: `{MODEL.name}_infer_result`, as in PaddleVideo's infer.py. */
export function resultStem(model: string, kind: ResultKind): string {
  return `${model}_${kind}`;
}

/** The result formats, by the value of `--format`. A new one also needs a codec in `RESULT_CODECS`. */
export const RESULT_FORMATS = {
  pickle: { extension: ".pkl", help: "pickle (PaddleVideo's)" },
  csv: { extension: ".csv", help: "csv (Kaggle's)" },
  jsonl: { extension: ".jsonl", help: "jsonl" },
} as const;

/** The formats in help and errors: with their origin, and by name only. */
export const FORMAT_HELP = Object.values(RESULT_FORMATS)
  .map(({ help }) => help)
  .join(", ");
export const FORMAT_NAMES = Object.keys(RESULT_FORMATS).join(", ");

/** A value of `--format`. */
export type ResultFormat = keyof typeof RESULT_FORMATS;

/** Returns whether `--format` accepts the value. */
export function isResultFormat(word: string): word is ResultFormat {
  return Object.hasOwn(RESULT_FORMATS, word);
}
