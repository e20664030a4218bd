import type { PickleCursor } from "./pickle-cursor.js";
import { asText } from "./pickle-numpy.js";
import { NumpyArray, type PickledDict, PickledTuple, type PickledValue } from "./pickle-values.js";

// Limits on what a malicious file can allocate with one byte each; a result file of a million videos or a shard of ten thousand stays far below them.
const MAX_PENDING = 1 << 22;
const MAX_CONTAINERS = 1 << 23;
const MAX_DICTS = 1 << 20;
const MAX_MEMO = 1 << 23;
/** Picklers number their memo from 0 or 1 without gaps; `pickletools.optimize` preserves this. */
const MAX_MEMO_GAP = 256;

/** The stack machine that executes a pickle: its stack, its marks, and its memo. It never runs code from the pickle. */
export class PickleMachine {
  readonly cursor: PickleCursor;
  readonly #stack: PickledValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo: (PickledValue | undefined)[] = [];
  /** Memo entries below this index belong to items that were already taken. */
  #takenBelow = 0;
  #containers = 0;
  #dicts = 0;

  constructor(cursor: PickleCursor) {
    this.cursor = cursor;
  }

  push(value: PickledValue): void {
    if (this.#stack.length >= MAX_PENDING) throw this.cursor.error(`more than ${MAX_PENDING} values wait to be put somewhere`);
    this.#stack.push(value);
  }

  /** Pushes a list, tuple or array. */
  pushContainer(value: PickledValue): void {
    if (++this.#containers > MAX_CONTAINERS) throw this.cursor.error(`it holds more than ${MAX_CONTAINERS} lists, tuples and arrays`);
    this.push(value);
  }

  pushDict(dict: PickledDict): void {
    if (++this.#dicts > MAX_DICTS) throw this.cursor.error(`it holds more than ${MAX_DICTS} dicts`);
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
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) throw this.cursor.error("a value is missing");
    return this.#stack.splice(this.#stack.length - count);
  }

  mark(): void {
    if (this.#marks.length >= MAX_PENDING) throw this.cursor.error(`more than ${MAX_PENDING} marks are open`);
    this.#marks.push(this.#stack.length);
  }

  popToMark(): PickledValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.cursor.error("a mark is missing");
    return this.#stack.splice(mark);
  }

  /** POP: removes the last mark if no value is above it, otherwise the top value. */
  discard(): void {
    if (this.#marks.length > 0 && this.#stack.length === this.#marks.at(-1)) this.#marks.pop();
    else this.pop();
  }

  memoise(index: number | bigint = this.#memo.length): void {
    if (typeof index !== "number" || index < 0 || index > this.#memo.length + MAX_MEMO_GAP || this.#memo.length >= MAX_MEMO) {
      throw this.cursor.error(`it remembers a value as number ${index} after ${this.#memo.length}`);
    }
    this.#memo[index] = this.top();
  }

  recall(index: number | bigint): void {
    const value = this.#memo[Number(index)];
    if (value === undefined && index < this.#takenBelow) throw this.cursor.error("an item of the list refers to a part of an earlier one");
    if (value === undefined) throw this.cursor.error(`it recalls value ${index}, which it never remembered`);
    this.push(value);
  }

  /**
   * Removes and returns the items appended so far to the pickle's list; returns none unless that list is alone on the stack. When it returns items, it also
   * removes all lists, tuples, dicts and arrays from the memo.
   */
  takeItems(): PickledValue[] {
    const [list] = this.#stack;
    if (this.#stack.length !== 1 || !Array.isArray(list) || list.length === 0) return [];
    for (; this.#takenBelow < this.#memo.length; this.#takenBelow++) {
      if (isContainer(this.#memo[this.#takenBelow])) this.#memo[this.#takenBelow] = undefined;
    }
    this.#containers = 0;
    this.#dicts = 0;
    return list.splice(0);
  }

  /** Returns the value at STOP. Throws BAD_FORMAT if other values or marks are left. */
  result(): PickledValue {
    const value = this.pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw this.cursor.error("it ends with values left over");
    return value;
  }

  append(list: PickledValue, items: readonly PickledValue[]): void {
    if (!Array.isArray(list)) throw this.cursor.error("it appends to what is no list");
    for (const item of items) list.push(item);
  }

  /** Sets items of a dict from alternating keys and values. */
  setItems(dict: PickledValue, items: readonly PickledValue[]): void {
    if (!(dict instanceof Map)) throw this.cursor.error("it sets items of what is no dict");
    if (items.length % 2 !== 0) throw this.cursor.error("a key has no value");
    for (let i = 0; i < items.length; i += 2) {
      const key = asText(items[i]);
      if (key === null) throw this.cursor.error("a dict's key is neither str nor bytes");
      dict.set(key, items[i + 1] as PickledValue);
    }
  }

  #requireValue(): void {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.cursor.error("a value is missing");
  }
}

function isContainer(value: PickledValue | undefined): boolean {
  return Array.isArray(value) || value instanceof PickledTuple || value instanceof Map || value instanceof NumpyArray;
}
