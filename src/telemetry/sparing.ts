/** Events that are told one by one. */
const TOLD_SINGLY = 20;

/** Whether the nth event (from 1) of many alike is worth a line: the first 20 are, then each that doubles their number. */
export function isWorthTelling(count: number): boolean {
  return count <= TOLD_SINGLY || (count % TOLD_SINGLY === 0 && Number.isInteger(Math.log2(count / TOLD_SINGLY)));
}
