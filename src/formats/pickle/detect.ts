import { OP } from "./opcodes.js";

/** The highest protocol that is supported. */
export const MAX_PROTOCOL = 5;

/**
 * Whether a file may be a pickle, by its first bytes: protocol 2 and later start with PROTO; before that, a list or dict begins with a text opcode, and a
 * malicious pickle with a global or a call, which `parsePickle` must reject by its name. Not in unpickler.ts, so that only readers of pickles load that.
 */
export function looksLikePickle(head: Uint8Array): boolean {
  const [first, second = 0] = head;
  if (first === OP.PROTO) return second <= MAX_PROTOCOL;
  return /^(\((?:[ld]p\d|[ld]|i|c|S')|[\]}](?:q|\()|c[\w.]+\n[\w.]+\n)/.test(Buffer.from(head.subarray(0, 128)).toString("latin1"));
}
