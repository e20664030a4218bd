/** Number of events that are all logged. */
const TOLD_SINGLY = 20;

/** Returns whether to log the nth event (from 1) of a kind: the first 20, then each time their number has doubled. */
export function isWorthTelling(count: number): boolean {
  return count <= TOLD_SINGLY || (count % TOLD_SINGLY === 0 && Number.isInteger(Math.log2(count / TOLD_SINGLY)));
}
