import { closeSync, fstatSync, readSync } from "node:fs";
import { fileError } from "../../base/errors.js";
import { openInputSync } from "../../base/input.js";
import { MAX_PROTOCOL } from "./detect.js";
import { arrayFromBuffer, checkDtypeState, makeDtype, makeScalar, reconstructArray, setArrayState } from "./numpy.js";
import { OP } from "./opcodes.js";
import { MAX_STRING_BYTES, PickleReader, type PickleSource } from "./reader.js";
import {
  asText,
  decodeLatin1,
  decodeLong,
  decodeUtf8,
  LONG_TEXT_BYTES,
  MAX_INT_BYTES,
  parseFloatLine,
  parseIntLine,
  parseRawUnicode,
  parseStringLiteral,
  stringToLatin1,
  utf8ToLatin1,
} from "./text.js";
import { Global, LazyString, NumpyArray, NumpyType, type PickledDict, type PickledValue, Tuple } from "./values.js";

/** Maximum length of text or bytes in a list that is read item by item: result files contain IDs and numbers, and no arrays. */
const MAX_ITEM_STRING_BYTES = 1 << 24;

// Limits on what a malicious file can allocate with one byte each; a result file of a million videos or a shard of ten thousand stays far below them.
const MAX_PENDING = 1 << 22;
const MAX_CONTAINERS = 1 << 23;
const MAX_DICTS = 1 << 20;
const MAX_MEMO = 1 << 23;
/** Picklers number their memo from 0 or 1 without gaps; `pickletools.optimize` preserves this. */
const MAX_MEMO_GAP = 256;

/**
 * Parses a pickle of plain data and numpy arrays, protocols 0 to 5, as Python 2 and 3 write them (opcodes from CPython's pickletools). Runs no code from the
 * pickle: a global that is not one of `GLOBALS` is rejected where it is named. Arrays and bytes are views of `bytes`, except those that protocols 0 to 2 store
 * as text. A list may contain itself, so bound any traversal of the result. `file` is for errors. Throws BAD_FORMAT (also for text or bytes longer than
 * `maxStringBytes`), UNSAFE_PICKLE.
 */
export function parsePickle(bytes: Uint8Array, file: string, maxStringBytes = MAX_STRING_BYTES): PickledValue {
  const unpickler = new Unpickler(new PickleReader(bytes, file, maxStringBytes));
  while (unpickler.step());
  return unpickler.result();
}

/**
 * Reads a pickled list item by item, in memory that does not grow with the number of items (except for memoized text); otherwise like `parsePickle`. Items may
 * share text, dtypes and globals, and nothing else. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE.
 */
export function* readPickledItems(path: string): Generator<PickledValue, void> {
  const source = openSource(path);
  try {
    const reader = new PickleReader(source, path, MAX_ITEM_STRING_BYTES);
    const unpickler = new Unpickler(reader);
    while (unpickler.step()) yield* unpickler.takeItems();
    const list = unpickler.result();
    if (!Array.isArray(list)) throw reader.error("expected a list");
    yield* list;
  } finally {
    source.close();
  }
}

function openSource(path: string): PickleSource & { close(): void } {
  const reading = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw fileError(error, path, "read");
    }
  };
  const file = openInputSync(path);
  return {
    sizeBytes: reading(() => fstatSync(file).size),
    read: (target) => reading(() => readSync(file, target)),
    close: () => closeSync(file),
  };
}

/** The state of a pickle's execution: its stack, its marks and its memo. */
class Unpickler {
  readonly #reader: PickleReader;
  readonly #stack: PickledValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo: (PickledValue | undefined)[] = [];
  /** Memo entries below this index belong to items that were already taken. */
  #takenEnd = 0;
  #containers = 0;
  #dicts = 0;

  constructor(reader: PickleReader) {
    this.#reader = reader;
  }

  /** Executes the next opcode; returns false at STOP, after which no bytes may follow. */
  step(): boolean {
    const reader = this.#reader;
    const opcode = reader.opcode();
    if (opcode === OP.STOP) {
      if (reader.left > 0) throw reader.error(`${reader.left} bytes after its end`, "save one object per file");
      return false;
    }
    const operation = OPERATIONS[opcode];
    if (operation === undefined) throw unknownOpcode(opcode, reader);
    operation(this, reader);
    return true;
  }

  push(value: PickledValue): void {
    if (this.#stack.length >= MAX_PENDING) throw this.#reader.error(`more than ${MAX_PENDING} values on the stack`);
    this.#stack.push(value);
  }

  /** Pushes a list, tuple or array. */
  pushContainer(value: PickledValue): void {
    if (++this.#containers > MAX_CONTAINERS) throw this.#reader.error(`more than ${MAX_CONTAINERS} lists, tuples and arrays`);
    this.push(value);
  }

  pushDict(dict: PickledDict): void {
    if (++this.#dicts > MAX_DICTS) throw this.#reader.error(`more than ${MAX_DICTS} dicts`);
    this.push(dict);
  }

  pop(): PickledValue {
    this.#requireValue();
    return this.#stack.pop() as PickledValue;
  }

  top(): PickledValue {
    this.#requireValue();
    return this.#stack[this.#stack.length - 1] as PickledValue;
  }

  /** Pops `count` values and returns them in order. */
  popSome(count: number): PickledValue[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) throw this.#reader.error("missing value on the stack");
    return this.#stack.splice(this.#stack.length - count);
  }

  mark(): void {
    if (this.#marks.length >= MAX_PENDING) throw this.#reader.error(`more than ${MAX_PENDING} marks on the stack`);
    this.#marks.push(this.#stack.length);
  }

  popToMark(): PickledValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#reader.error("missing mark on the stack");
    return this.#stack.splice(mark);
  }

  /** POP: removes the last mark if no value is above it, otherwise the top value. */
  discard(): void {
    if (this.#marks.length > 0 && this.#stack.length === this.#marks.at(-1)) this.#marks.pop();
    else this.pop();
  }

  memoize(index: number | bigint = this.#memo.length): void {
    if (typeof index !== "number" || index < 0 || index > this.#memo.length + MAX_MEMO_GAP || this.#memo.length >= MAX_MEMO) {
      throw this.#reader.error(`memo index ${index} after ${this.#memo.length} entries`);
    }
    this.#memo[index] = this.top();
  }

  recall(index: number | bigint): void {
    const value = this.#memo[Number(index)];
    if (value === undefined && index < this.#takenEnd) throw this.#reader.error("a list item refers to a part of an earlier item");
    if (value === undefined) throw this.#reader.error(`memo entry ${index} not found`);
    this.push(value);
  }

  /**
   * Removes and returns the items appended so far to the pickle's list; returns none unless that list is alone on the stack. When it returns items, it also
   * removes all lists, tuples, dicts and arrays from the memo.
   */
  takeItems(): PickledValue[] {
    const [list] = this.#stack;
    if (this.#stack.length !== 1 || !Array.isArray(list) || list.length === 0) return [];
    for (; this.#takenEnd < this.#memo.length; this.#takenEnd++) {
      if (isContainer(this.#memo[this.#takenEnd])) this.#memo[this.#takenEnd] = undefined;
    }
    this.#containers = 0;
    this.#dicts = 0;
    return list.splice(0);
  }

  /** Returns the value at STOP. Throws BAD_FORMAT if other values or marks are left. */
  result(): PickledValue {
    const value = this.pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw this.#reader.error("values left on the stack at the end");
    return value;
  }

  /** Appends items to the list at the top. */
  append(items: readonly PickledValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.#reader.error("appends to a value that is not a list");
    for (const item of items) list.push(item);
  }

  /** Sets items of the dict at the top from alternating keys and values. */
  setItems(items: readonly PickledValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) throw this.#reader.error("sets items of a value that is not a dict");
    if (items.length % 2 !== 0) throw this.#reader.error("a dict key has no value");
    for (let i = 0; i < items.length; i += 2) {
      const key = asText(items[i]);
      if (key === null) throw this.#reader.error("a dict key is neither str nor bytes");
      dict.set(key, items[i + 1] as PickledValue);
    }
  }

  #requireValue(): void {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.#reader.error("missing value on the stack");
  }
}

function isContainer(value: PickledValue | undefined): boolean {
  return Array.isArray(value) || value instanceof Tuple || value instanceof Map || value instanceof NumpyArray;
}

type Operation = (unpickler: Unpickler, reader: PickleReader) => void;

const OPERATIONS: readonly (Operation | undefined)[] = tableOf([
  // The pickle itself.
  [OP.PROTO, (_, r) => checkProtocol(r)],
  [OP.FRAME, (_, r) => checkFrame(r)],
  [OP.MARK, (u) => u.mark()],
  [OP.POP, (u) => u.discard()],
  [OP.POP_MARK, (u) => void u.popToMark()],
  [OP.DUP, (u) => u.push(u.top())],
  [OP.READONLY_BUFFER, (u) => void u.top()],
  // The memo.
  [OP.PUT, (u, r) => u.memoize(parsed(parseIntLine(r.line()), "memo index", r))],
  [OP.BINPUT, (u, r) => u.memoize(r.uint8())],
  [OP.LONG_BINPUT, (u, r) => u.memoize(r.uint32())],
  [OP.MEMOIZE, (u) => u.memoize()],
  [OP.GET, (u, r) => u.recall(parsed(parseIntLine(r.line()), "memo index", r))],
  [OP.BINGET, (u, r) => u.recall(r.uint8())],
  [OP.LONG_BINGET, (u, r) => u.recall(r.uint32())],
  // Constants and numbers.
  [OP.NONE, (u) => u.push(null)],
  [OP.NEWTRUE, (u) => u.push(true)],
  [OP.NEWFALSE, (u) => u.push(false)],
  [OP.INT, (u, r) => u.push(intOrBoolean(r))],
  [OP.LONG, (u, r) => u.push(parsed(parseIntLine(r.line()), "int", r))],
  [OP.BININT, (u, r) => u.push(r.int32())],
  [OP.BININT1, (u, r) => u.push(r.uint8())],
  [OP.BININT2, (u, r) => u.push(r.uint16())],
  [OP.LONG1, (u, r) => u.push(decodeLong(r.take(r.uint8())))],
  [OP.LONG4, (u, r) => u.push(decodeLong(r.take(longBytes(r))))],
  [OP.FLOAT, (u, r) => u.push(parsed(parseFloatLine(r.line()), "float", r))],
  [OP.BINFLOAT, (u, r) => u.push(r.float64())],
  // Text.
  [OP.UNICODE, (u, r) => u.push(parsed(parseRawUnicode(r.line()), "text", r))],
  [OP.BINUNICODE, (u, r) => u.push(text(r.takeString(r.uint32()), r))],
  [OP.SHORT_BINUNICODE, (u, r) => u.push(text(r.takeString(r.uint8()), r))],
  [OP.BINUNICODE8, (u, r) => u.push(text(r.takeString(r.uint64()), r))],
  // Bytes.
  [OP.STRING, (u, r) => u.push(parsed(parseStringLiteral(r.line()), "string literal", r))],
  [OP.BINSTRING, (u, r) => u.push(r.takeString(r.uint32()))],
  [OP.SHORT_BINSTRING, (u, r) => u.push(r.takeString(r.uint8()))],
  [OP.BINBYTES, (u, r) => u.push(r.takeString(r.uint32()))],
  [OP.SHORT_BINBYTES, (u, r) => u.push(r.takeString(r.uint8()))],
  [OP.BINBYTES8, (u, r) => u.push(r.takeString(r.uint64()))],
  [OP.BYTEARRAY8, (u, r) => u.push(r.takeString(r.uint64()))],
  // Containers.
  [OP.EMPTY_TUPLE, (u) => u.pushContainer(new Tuple([]))],
  [OP.TUPLE, (u) => u.pushContainer(new Tuple(u.popToMark()))],
  [OP.TUPLE1, (u) => u.pushContainer(new Tuple(u.popSome(1)))],
  [OP.TUPLE2, (u) => u.pushContainer(new Tuple(u.popSome(2)))],
  [OP.TUPLE3, (u) => u.pushContainer(new Tuple(u.popSome(3)))],
  [OP.EMPTY_LIST, (u) => u.pushContainer([])],
  [OP.LIST, (u) => u.pushContainer(u.popToMark())],
  [OP.APPEND, (u) => u.append([u.pop()])],
  [OP.APPENDS, (u) => u.append(u.popToMark())],
  [OP.EMPTY_DICT, (u) => u.pushDict(new Map())],
  [OP.DICT, (u) => makeDict(u)],
  [OP.SETITEM, (u) => u.setItems(u.popSome(2))],
  [OP.SETITEMS, (u) => u.setItems(u.popToMark())],
  // Objects.
  [OP.GLOBAL, (u, r) => u.push(findGlobal(decodeLatin1(r.line()), decodeLatin1(r.line()), r))],
  [OP.STACK_GLOBAL, (u, r) => stackGlobal(u, r)],
  [OP.INST, (_, r) => rejectInstance(r)],
  [OP.REDUCE, (u, r) => reduce(u, r)],
  [OP.BUILD, (u, r) => build(u, r)],
]);

function tableOf(entries: readonly [number, Operation][]): readonly (Operation | undefined)[] {
  const table: (Operation | undefined)[] = new Array(256).fill(undefined);
  for (const [opcode, operation] of entries) table[opcode] = operation;
  return table;
}

function checkProtocol(reader: PickleReader): void {
  const protocol = reader.uint8();
  if (protocol > MAX_PROTOCOL) throw reader.error(`unsupported protocol ${protocol} (at most ${MAX_PROTOCOL})`);
}

/** A frame only suggests how much to read at once; only its length is checked. */
function checkFrame(reader: PickleReader): void {
  const length = reader.uint64();
  if (length > reader.left) throw reader.truncated(`a frame of ${length} bytes, found ${reader.left}`);
}

function parsed<T>(value: T | null, what: string, reader: PickleReader): T {
  if (value === null) throw reader.error(`invalid ${what}`);
  return value;
}

/** INT encodes booleans as `00` and `01`. */
function intOrBoolean(reader: PickleReader): PickledValue {
  const line = reader.line();
  const two = line.length === 2 ? decodeLatin1(line) : "";
  if (two === "00" || two === "01") return two === "01";
  return parsed(parseIntLine(line), "int", reader);
}

function longBytes(reader: PickleReader): number {
  const length = reader.int32();
  if (length < 0 || length > MAX_INT_BYTES) throw reader.error(`an int of ${length} bytes is too long (at most ${MAX_INT_BYTES})`);
  return length;
}

function text(utf8: Uint8Array, reader: PickleReader): string | LazyString {
  return utf8.length > LONG_TEXT_BYTES ? new LazyString(utf8) : parsed(decodeUtf8(utf8), "text", reader);
}

function makeDict(unpickler: Unpickler): void {
  const items = unpickler.popToMark();
  unpickler.pushDict(new Map());
  unpickler.setItems(items);
}

function stackGlobal(unpickler: Unpickler, reader: PickleReader): void {
  const [module, name] = unpickler.popSome(2).map(asText);
  if (typeof module !== "string" || typeof name !== "string") throw reader.error("a global's name is not text");
  unpickler.push(findGlobal(module, name, reader));
}

function rejectInstance(reader: PickleReader): never {
  throw reader.forbidden(decodeLatin1(reader.line()), decodeLatin1(reader.line()));
}

function reduce(unpickler: Unpickler, reader: PickleReader): void {
  const args = unpickler.pop();
  const result = callGlobal(unpickler.pop(), args, reader);
  if (result instanceof Map) unpickler.pushDict(result);
  else unpickler.pushContainer(result);
}

function build(unpickler: Unpickler, reader: PickleReader): void {
  const state = unpickler.pop();
  const object = unpickler.top();
  if (object instanceof NumpyArray) setArrayState(object, state, reader);
  else if (object instanceof NumpyType) checkDtypeState(state, reader);
  else throw reader.error("sets the state of a value that is neither array nor dtype");
}

function unknownOpcode(opcode: number, reader: PickleReader) {
  const hex = `0x${opcode.toString(16).padStart(2, "0")}`;
  const name = REJECTED_OPCODES.get(opcode);
  if (name !== undefined) return reader.error(`unsupported opcode ${hex} (${name})`);
  return reader.error(`unknown opcode ${hex}`);
}

/** Opcodes that exist but are rejected. */
const REJECTED_OPCODES: ReadonlyMap<number, string> = new Map([
  [OP.PERSID, "persistent object"],
  [OP.BINPERSID, "persistent object"],
  [OP.NEWOBJ, "class instance"],
  [OP.NEWOBJ_EX, "class instance"],
  [OP.OBJ, "class instance"],
  [OP.EXT1, "extension registry"],
  [OP.EXT2, "extension registry"],
  [OP.EXT4, "extension registry"],
  [OP.EMPTY_SET, "set"],
  [OP.ADDITEMS, "set"],
  [OP.FROZENSET, "frozenset"],
  [OP.NEXT_BUFFER, "out-of-band buffer"],
]);

type Call = (args: readonly PickledValue[], reader: PickleReader) => PickledValue;

/** All globals that a pickle may name, under each of their names, and the function that a call of each runs here. No other object can be reached. */
const GLOBALS: ReadonlyMap<string, Call> = new Map<string, Call>([
  ["numpy.core.multiarray._reconstruct", reconstructArray],
  ["numpy._core.multiarray._reconstruct", reconstructArray],
  ["numpy.core.multiarray.scalar", makeScalar],
  ["numpy._core.multiarray.scalar", makeScalar],
  ["numpy.core.numeric._frombuffer", arrayFromBuffer],
  ["numpy._core.numeric._frombuffer", arrayFromBuffer],
  ["numpy.dtype", makeDtype],
  ["numpy.ndarray", rejectNdarray],
  ["_codecs.encode", encodeLatin1],
  // Protocol 2 writes b'' this way, because it has no opcode for bytes.
  ["__builtin__.bytes", makeEmptyBytes],
  ["builtins.bytes", makeEmptyBytes],
  ["collections.OrderedDict", makeOrderedDict],
]);

/** Looks up a global by name. Throws UNSAFE_PICKLE for all but the few that arrays need. */
function findGlobal(module: string, name: string, reader: PickleReader): Global {
  if (!GLOBALS.has(`${module}.${name}`)) throw reader.forbidden(module, name);
  return new Global(module, name);
}

/** REDUCE: returns the result of `callable(*args)`. */
function callGlobal(callable: PickledValue | undefined, args: PickledValue | undefined, reader: PickleReader): PickledValue {
  if (!(callable instanceof Global) || !(args instanceof Tuple)) throw reader.error("calls a value that is not a function");
  const call = GLOBALS.get(`${callable.module}.${callable.name}`);
  if (call === undefined) throw reader.forbidden(callable.module, callable.name);
  return call(args.items, reader);
}

function rejectNdarray(_: readonly PickledValue[], reader: PickleReader): never {
  throw reader.error("calls numpy.ndarray directly");
}

/** `_codecs.encode(text, 'latin1')`: the form of bytes in protocols 0 to 2 of Python 3. */
function encodeLatin1([text, encoding]: readonly PickledValue[], reader: PickleReader): Uint8Array {
  if (!/^(latin-?1|iso-?8859-?1)$/i.test((asText(encoding) ?? "").replaceAll("_", "-"))) {
    throw reader.error("bytes are stored as text in an encoding other than Latin-1");
  }
  if (!(text instanceof LazyString) && typeof text !== "string") throw reader.error("bytes are not stored as text");
  // A pickler's output decodes each text once; a short malicious file that recalls and decodes one text repeatedly would exhaust the memory.
  // A character takes at least one byte of the file: protocol 0 writes Latin-1, later ones UTF-8.
  reader.countDecoded(text instanceof LazyString ? text.utf8.length : text.length);
  const latin1 = text instanceof LazyString ? utf8ToLatin1(text.utf8) : stringToLatin1(text);
  if (latin1 === null) throw reader.error("bytes are stored as text with characters above U+00FF or invalid UTF-8", "copy the file again");
  return latin1;
}

function makeEmptyBytes(args: readonly PickledValue[], reader: PickleReader): Uint8Array {
  if (args.length > 0) throw reader.error("calls bytes with arguments");
  return new Uint8Array();
}

/** `collections.OrderedDict()`: an empty dict, whose items follow. */
function makeOrderedDict(args: readonly PickledValue[], reader: PickleReader): PickledValue {
  if (args.length > 0) throw reader.error("calls OrderedDict with arguments");
  return new Map<string, PickledValue>();
}
