import type { PickleCursor } from "./pickle-cursor.js";
import { arrayFromBuffer, asText, makeDtype, makeScalar, reconstructArray } from "./pickle-numpy.js";
import { encodeLatin1, encodeLatin1Text } from "./pickle-text.js";
import { PickledGlobal, PickledText, PickledTuple, type PickledValue } from "./pickle-values.js";

type Call = (args: readonly PickledValue[], cursor: PickleCursor) => PickledValue;

/** All globals that a pickle may name, under each of their names, and the function that a call of each runs here. No other object can be reached. */
const CALLS: ReadonlyMap<string, Call> = new Map<string, Call>([
  ["numpy.core.multiarray._reconstruct", reconstructArray],
  ["numpy._core.multiarray._reconstruct", reconstructArray],
  ["numpy.core.multiarray.scalar", makeScalar],
  ["numpy._core.multiarray.scalar", makeScalar],
  ["numpy.core.numeric._frombuffer", arrayFromBuffer],
  ["numpy._core.numeric._frombuffer", arrayFromBuffer],
  ["numpy.dtype", makeDtype],
  ["numpy.ndarray", refuseNdarray],
  ["_codecs.encode", encodeText],
  // Protocol 2 writes b'' this way, because it has no opcode for bytes.
  ["__builtin__.bytes", makeEmptyBytes],
  ["builtins.bytes", makeEmptyBytes],
  ["collections.OrderedDict", makeDict],
]);

/** Looks up a global by name. Throws UNSAFE_PICKLE for all but the few that arrays need. */
export function findGlobal(module: string, name: string, cursor: PickleCursor): PickledGlobal {
  if (!CALLS.has(`${module}.${name}`)) throw cursor.forbidden(module, name);
  return new PickledGlobal(module, name);
}

/** REDUCE: returns the result of `callable(*args)`. */
export function callGlobal(callable: PickledValue | undefined, args: PickledValue | undefined, cursor: PickleCursor): PickledValue {
  if (!(callable instanceof PickledGlobal) || !(args instanceof PickledTuple)) throw cursor.error("it calls what is no function");
  const call = CALLS.get(`${callable.module}.${callable.name}`);
  if (call === undefined) throw cursor.forbidden(callable.module, callable.name);
  return call(args.items, cursor);
}

function refuseNdarray(_: readonly PickledValue[], cursor: PickleCursor): never {
  throw cursor.error("it calls numpy.ndarray itself");
}

/** `_codecs.encode(text, 'latin1')`: the form of bytes in protocols 0 to 2 of Python 3. */
function encodeText([text, encoding]: readonly PickledValue[], cursor: PickleCursor): Uint8Array {
  if (!/^(latin-?1|iso-?8859-?1)$/i.test((asText(encoding) ?? "").replaceAll("_", "-"))) {
    throw cursor.error("bytes are kept as text of an encoding other than Latin-1");
  }
  if (!(text instanceof PickledText) && typeof text !== "string") throw cursor.error("bytes are kept as something other than text");
  // A pickler's output decodes each text once; a short malicious file that recalls and decodes one text repeatedly would exhaust the memory.
  // A character takes at least one byte of the file: protocol 0 writes Latin-1, later ones UTF-8.
  cursor.chargeDecoded(text instanceof PickledText ? text.utf8.length : text.length);
  const latin1 = text instanceof PickledText ? encodeLatin1(text.utf8) : encodeLatin1Text(text);
  if (latin1 === null) throw cursor.error("bytes are kept as text that has characters past U+00FF, or is no UTF-8", "copy the file again");
  return latin1;
}

function makeEmptyBytes(args: readonly PickledValue[], cursor: PickleCursor): Uint8Array {
  if (args.length > 0) throw cursor.error("it calls bytes with arguments");
  return new Uint8Array();
}

/** `collections.OrderedDict()`: an empty dict, whose items follow. */
function makeDict(args: readonly PickledValue[], cursor: PickleCursor): PickledValue {
  if (args.length > 0) throw cursor.error("it calls OrderedDict with arguments");
  return new Map<string, PickledValue>();
}
