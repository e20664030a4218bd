import { MAX_STRING_BYTES, PickleCursor } from "./pickle-cursor.js";
import { callGlobal, findGlobal } from "./pickle-globals.js";
import { PickleMachine } from "./pickle-machine.js";
import { asText, checkDtypeState, setArrayState } from "./pickle-numpy.js";
import {
  decodeLong,
  decodeUtf8,
  LONG_TEXT_BYTES,
  latin1Text,
  MAX_INT_BYTES,
  parseFloatLine,
  parseInt10,
  parseRawUnicode,
  parseStringLiteral,
} from "./pickle-text.js";
import { NumpyArray, NumpyDtype, type PickledDict, PickledText, PickledTuple, type PickledValue } from "./pickle-values.js";

type Operation = (machine: PickleMachine, cursor: PickleCursor) => void;

const STOP = 0x2e;
const MAX_PROTOCOL = 5;

/**
 * Parses a pickle of plain data and numpy arrays, protocols 0 to 5, as Python 2 and 3 write them (opcodes from CPython's pickletools). Runs no code from the
 * pickle: a global that is not one of the few in pickle-globals.ts is rejected where it is named. Arrays and bytes are views of `bytes`, except those that
 * protocols 0 to 2 store as text. A list may contain itself, so bound any traversal of the result. `file` is for errors. Throws BAD_FORMAT (also for text or
 * bytes longer than `maxStringBytes`), UNSAFE_PICKLE.
 */
export function parsePickle(bytes: Uint8Array, file: string, maxStringBytes = MAX_STRING_BYTES): PickledValue {
  const cursor = new PickleCursor(bytes, file, maxStringBytes);
  const machine = new PickleMachine(cursor);
  for (let goesOn = true; goesOn; ) goesOn = runOpcode(machine, cursor);
  return machine.result();
}

/** Executes the next opcode; returns false at STOP, after which no bytes may follow. */
export function runOpcode(machine: PickleMachine, cursor: PickleCursor): boolean {
  const opcode = cursor.opcode();
  if (opcode === STOP) {
    if (cursor.left > 0) throw cursor.error(`${cursor.left} bytes follow its end`, "save one object a file");
    return false;
  }
  const operation = OPERATIONS[opcode];
  if (operation === undefined) throw unknownOpcode(opcode, cursor);
  operation(machine, cursor);
  return true;
}

/**
 * Whether a file may be a pickle, by its first bytes: protocol 2 and later start with PROTO; before that, a list or dict begins with a text opcode, and a
 * malicious pickle with a global or a call, which `parsePickle` must reject by its name.
 */
export function looksLikePickle(head: Uint8Array): boolean {
  const [first, second = 0] = head;
  if (first === 0x80) return second <= MAX_PROTOCOL;
  return /^(\((?:[ld]p\d|[ld]|i|c|S')|[\]}](?:q|\()|c[\w.]+\n[\w.]+\n)/.test(latin1Text(head.subarray(0, 128)));
}

function unknownOpcode(opcode: number, cursor: PickleCursor) {
  const hex = `0x${opcode.toString(16).padStart(2, "0")}`;
  const name = REFUSED.get(opcode);
  if (name !== undefined) return cursor.error(`it needs ${name} (opcode ${hex}), which weights and features never need`);
  return cursor.error(`there is no opcode ${hex}`);
}

/** Opcodes that exist but are rejected. */
const REFUSED: ReadonlyMap<number, string> = new Map([
  [0x50, "a persistent object"],
  [0x51, "a persistent object"],
  [0x81, "to make an object of a class"],
  [0x92, "to make an object of a class"],
  [0x6f, "to make an object of a class"],
  [0x82, "a registered extension"],
  [0x83, "a registered extension"],
  [0x84, "a registered extension"],
  [0x8f, "a set"],
  [0x90, "a set"],
  [0x91, "a frozenset"],
  [0x97, "a buffer outside the file"],
]);

const OPERATIONS: readonly (Operation | undefined)[] = tableOf([
  // The pickle itself: PROTO, FRAME, MARK, POP, POP_MARK, DUP, READONLY_BUFFER.
  [0x80, (_, c) => checkProtocol(c)],
  [0x95, (_, c) => checkFrame(c)],
  [0x28, (m) => m.mark()],
  [0x30, (m) => m.discard()],
  [0x31, (m) => void m.popToMark()],
  [0x32, (m) => m.push(m.top())],
  [0x98, (m) => void m.top()],
  // The memo: PUT, BINPUT, LONG_BINPUT, MEMOIZE, GET, BINGET, LONG_BINGET.
  [0x70, (m, c) => m.memoise(parsed(parseInt10(c.line()), "a number", c))],
  [0x71, (m, c) => m.memoise(c.uint8())],
  [0x72, (m, c) => m.memoise(c.uint32())],
  [0x94, (m) => m.memoise()],
  [0x67, (m, c) => m.recall(parsed(parseInt10(c.line()), "a number", c))],
  [0x68, (m, c) => m.recall(c.uint8())],
  [0x6a, (m, c) => m.recall(c.uint32())],
  // Constants and numbers: NONE, NEWTRUE, NEWFALSE, INT, LONG, BININT, BININT1, BININT2, LONG1, LONG4, FLOAT, BINFLOAT.
  [0x4e, (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  [0x49, (m, c) => m.push(intOrBoolean(c))],
  [0x4c, (m, c) => m.push(parsed(parseInt10(c.line()), "an int", c))],
  [0x4a, (m, c) => m.push(c.int32())],
  [0x4b, (m, c) => m.push(c.uint8())],
  [0x4d, (m, c) => m.push(c.uint16())],
  [0x8a, (m, c) => m.push(decodeLong(c.take(c.uint8())))],
  [0x8b, (m, c) => m.push(decodeLong(c.take(longBytes(c))))],
  [0x46, (m, c) => m.push(parsed(parseFloatLine(c.line()), "a float", c))],
  [0x47, (m, c) => m.push(c.float64())],
  // Text: UNICODE, BINUNICODE, SHORT_BINUNICODE, BINUNICODE8.
  [0x56, (m, c) => m.push(parsed(parseRawUnicode(c.line()), "text", c))],
  [0x58, (m, c) => m.push(text(c.takeString(c.uint32()), c))],
  [0x8c, (m, c) => m.push(text(c.takeString(c.uint8()), c))],
  [0x8d, (m, c) => m.push(text(c.takeString(c.uint64()), c))],
  // Bytes: STRING, BINSTRING, SHORT_BINSTRING (Python 2's str), BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8.
  [0x53, (m, c) => m.push(parsed(parseStringLiteral(c.line()), "a quoted string", c))],
  [0x54, (m, c) => m.push(c.takeString(c.uint32()))],
  [0x55, (m, c) => m.push(c.takeString(c.uint8()))],
  [0x42, (m, c) => m.push(c.takeString(c.uint32()))],
  [0x43, (m, c) => m.push(c.takeString(c.uint8()))],
  [0x8e, (m, c) => m.push(c.takeString(c.uint64()))],
  [0x96, (m, c) => m.push(c.takeString(c.uint64()))],
  // Containers: EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3, EMPTY_LIST, LIST, APPEND, APPENDS, EMPTY_DICT, DICT, SETITEM, SETITEMS.
  [0x29, (m) => m.pushContainer(new PickledTuple([]))],
  [0x74, (m) => m.pushContainer(new PickledTuple(m.popToMark()))],
  [0x85, (m) => m.pushContainer(new PickledTuple(m.popSome(1)))],
  [0x86, (m) => m.pushContainer(new PickledTuple(m.popSome(2)))],
  [0x87, (m) => m.pushContainer(new PickledTuple(m.popSome(3)))],
  [0x5d, (m) => m.pushContainer([])],
  [0x6c, (m) => m.pushContainer(m.popToMark())],
  [0x61, (m) => appendTo(m, [m.pop()])],
  [0x65, (m) => appendTo(m, m.popToMark())],
  [0x7d, (m) => m.pushDict(new Map())],
  [0x64, (m) => makeDict(m)],
  [0x73, (m) => setItemsOf(m, m.popSome(2))],
  [0x75, (m) => setItemsOf(m, m.popToMark())],
  // Objects: GLOBAL, STACK_GLOBAL, INST, REDUCE, BUILD.
  [0x63, (m, c) => m.push(findGlobal(latin1Text(c.line()), latin1Text(c.line()), c))],
  [0x93, (m, c) => stackGlobal(m, c)],
  [0x69, (_, c) => refuseInstance(c)],
  [0x52, (m, c) => reduce(m, c)],
  [0x62, (m, c) => build(m, c)],
]);

function tableOf(entries: readonly [number, Operation][]): readonly (Operation | undefined)[] {
  const table: (Operation | undefined)[] = new Array(256).fill(undefined);
  for (const [opcode, operation] of entries) table[opcode] = operation;
  return table;
}

function checkProtocol(cursor: PickleCursor): void {
  const protocol = cursor.uint8();
  if (protocol > MAX_PROTOCOL) throw cursor.error(`its protocol is ${protocol}, and the last one known is ${MAX_PROTOCOL}`);
}

/** A frame only suggests how much to read at once; only its length is checked. */
function checkFrame(cursor: PickleCursor): void {
  const length = cursor.uint64();
  if (length > cursor.left) throw cursor.truncated(`a frame of ${length} bytes, found ${cursor.left}`);
}

function parsed<T>(value: T | null, what: string, cursor: PickleCursor): T {
  if (value === null) throw cursor.error(`${what} is not written as one`);
  return value;
}

/** INT encodes booleans as `00` and `01`. */
function intOrBoolean(cursor: PickleCursor): PickledValue {
  const line = cursor.line();
  const two = line.length === 2 ? latin1Text(line) : "";
  if (two === "00" || two === "01") return two === "01";
  return parsed(parseInt10(line), "an int", cursor);
}

function longBytes(cursor: PickleCursor): number {
  const length = cursor.int32();
  if (length < 0 || length > MAX_INT_BYTES) throw cursor.error(`an int has ${length} bytes, and at most ${MAX_INT_BYTES} are read`);
  return length;
}

function text(utf8: Uint8Array, cursor: PickleCursor): string | PickledText {
  return utf8.length > LONG_TEXT_BYTES ? new PickledText(utf8) : parsed(decodeUtf8(utf8), "text", cursor);
}

function appendTo(machine: PickleMachine, items: readonly PickledValue[]): void {
  machine.append(machine.top(), items);
}

function setItemsOf(machine: PickleMachine, items: readonly PickledValue[]): void {
  machine.setItems(machine.top(), items);
}

function makeDict(machine: PickleMachine): void {
  const items = machine.popToMark();
  const dict: PickledDict = new Map();
  machine.setItems(dict, items);
  machine.pushDict(dict);
}

function stackGlobal(machine: PickleMachine, cursor: PickleCursor): void {
  const [module, name] = machine.popSome(2).map(asText);
  if (typeof module !== "string" || typeof name !== "string") throw cursor.error("a global's name is no text");
  machine.push(findGlobal(module, name, cursor));
}

function refuseInstance(cursor: PickleCursor): never {
  throw cursor.forbidden(latin1Text(cursor.line()), latin1Text(cursor.line()));
}

function reduce(machine: PickleMachine, cursor: PickleCursor): void {
  const args = machine.pop();
  const made = callGlobal(machine.pop(), args, cursor);
  if (made instanceof Map) machine.pushDict(made);
  else machine.pushContainer(made);
}

function build(machine: PickleMachine, cursor: PickleCursor): void {
  const state = machine.pop();
  const object = machine.top();
  if (object instanceof NumpyArray) setArrayState(object, state, cursor);
  else if (object instanceof NumpyDtype) checkDtypeState(state, cursor);
  else throw cursor.error("it sets the state of what is neither array nor dtype");
}
