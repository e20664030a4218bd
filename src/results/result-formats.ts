/** The file of eval's metrics. */
export const EVAL_RESULT_NAME = "NEXTVLAD_eval_result.json";

/** How results may be written, by the word that `--format` takes, with the file name's ending. */
export const RESULT_FORMATS = { pickle: ".pkl", csv: ".csv", jsonl: ".jsonl" } as const;

/** A word that `--format` takes. */
export type ResultFormat = keyof typeof RESULT_FORMATS;

/** Whether `--format` takes the word. */
export function isResultFormat(word: string): word is ResultFormat {
  return Object.hasOwn(RESULT_FORMATS, word);
}
