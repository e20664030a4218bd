/** What PaddleVideo tells of a training step: losses and metrics are of this batch alone. */
export interface TrainLine {
  readonly epoch: number;
  readonly step: number;
  readonly loss: number;
  readonly hitAtOne: number;
  readonly perr: number;
  readonly gap: number;
}

/** PaddleVideo's line for a training step, to the letter, for those who grep it (the space before the first comma is its own). */
export function formatTrainLine({ epoch, step, loss, hitAtOne, perr, gap }: TrainLine): string {
  const metrics = `Hit@1 = ${hitAtOne.toFixed(2)}, PERR = ${perr.toFixed(2)}, GAP = ${gap.toFixed(2)}`;
  return `[TRAIN] Epoch ${epoch}, iter ${step} , loss = ${loss.toFixed(6)}, ${metrics}`;
}

/** What PaddleVideo tells of a whole evaluation: averages over videos, and the GAP of all of them. */
export interface EvalLine {
  readonly hitAtOne: number;
  readonly perr: number;
  readonly loss: number;
  readonly gap: number;
}

/** PaddleVideo's line at the end of an evaluation, with its tabs and its colons. */
export function formatEvalLine({ hitAtOne, perr, loss, gap }: EvalLine): string {
  const [hit, precision, average, area] = [hitAtOne, perr, loss, gap].map((value) => value.toFixed(4));
  return `[EVAL] eval finished. \tavg_hit_at_one: ${hit},\tavg_perr: ${precision},\tavg_loss :${average},\tgap:${area}`;
}
