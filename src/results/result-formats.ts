/** The file name of eval's metrics. */
export const EVAL_RESULT_NAME = "NEXTVLAD_eval_result.json";

/** The result formats, by the value of `--format`, with their file name extensions. */
export const RESULT_FORMATS = { pickle: ".pkl", csv: ".csv", jsonl: ".jsonl" } as const;

/** A value of `--format`. */
export type ResultFormat = keyof typeof RESULT_FORMATS;

/** Returns whether `--format` accepts the value. */
export function isResultFormat(word: string): word is ResultFormat {
  return Object.hasOwn(RESULT_FORMATS, word);
}
