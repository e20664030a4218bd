/** PaddleVideo's log line for a training step: losses and metrics are those of the current batch. */
export interface TrainLine {
  readonly epoch: number;
  readonly step: number;
  readonly loss: number;
  readonly hitAtOne: number;
  readonly perr: number;
  readonly gap: number;
}

/** Formats PaddleVideo's line for a training step exactly, for scripts that grep it (including the space before the first comma). */
export function formatTrainLine({ epoch, step, loss, hitAtOne, perr, gap }: TrainLine): string {
  const metrics = `Hit@1 = ${hitAtOne.toFixed(2)}, PERR = ${perr.toFixed(2)}, GAP = ${gap.toFixed(2)}`;
  return `[TRAIN] Epoch ${epoch}, iter ${step} , loss = ${loss.toFixed(6)}, ${metrics}`;
}

/** PaddleVideo's log line for an evaluation: averages over all videos, and their GAP. */
export interface EvalLine {
  readonly hitAtOne: number;
  readonly perr: number;
  readonly loss: number;
  readonly gap: number;
}

/** Formats PaddleVideo's line at the end of an evaluation exactly, with its tabs and colons. */
export function formatEvalLine({ hitAtOne, perr, loss, gap }: EvalLine): string {
  const [hit, precision, average, area] = [hitAtOne, perr, loss, gap].map((value) => value.toFixed(4));
  return `[EVAL] eval finished. \tavg_hit_at_one: ${hit},\tavg_perr: ${precision},\tavg_loss :${average},\tgap:${area}`;
}
