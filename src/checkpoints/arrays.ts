import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import type { StoredArray } from "../runtime/variables.js";
import { adamParameter, isArrayName, modelOf } from "./model-arrays.js";
import { suggestEarlierSnapshot } from "./snapshot.js";
import { assertFinite, floatsOf, type WeightSource } from "./weight-source.js";

/** A mismatch between an array of a model and of a file: missing, or of another shape or type. */
export interface Mismatch {
  readonly name: string;
  readonly expected: readonly number[];
  /** Null if the file has no such array. */
  readonly found: readonly number[] | null;
  /** The file's type, if the types differ. */
  readonly dtype?: string;
}

const show = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

/** Describes a mismatch: "logits_clf_bias is [12], expected [3862]". */
export function describeMismatch({ name, expected, found, dtype }: Mismatch): string {
  if (found === null) return `${name} ${show(expected)} is missing`;
  if (dtype !== undefined) return `${name} has type ${dtype}, expected f4`;
  return `${name} is ${showText(show(found))}, expected ${show(expected)}`;
}

/** An array that a model needs. */
type WantedArray = Pick<StoredArray, "name" | "shape">;

/** An array that receives values, which are valid only during the call. */
type FilledArray = Pick<StoredArray, "name" | "shape" | "upload">;

/** Compares names, shapes and types with the entries of a file, without reading data. */
export function findMismatches(source: WeightSource, arrays: readonly WantedArray[]): readonly Mismatch[] {
  return arrays.flatMap(({ name, shape: expected }): Mismatch[] => {
    const entry = source.entries.get(name);
    if (entry === undefined) return [{ name, expected, found: null }];
    if (show(entry.shape) !== show(expected)) return [{ name, expected, found: entry.shape }];
    return entry.dtype === "f4" ? [] : [{ name, expected, found: entry.shape, dtype: entry.dtype }];
  });
}

/** Called with each array's name and values. The values are borrowed: valid only during the call. */
export type OnArray = (name: string, values: Float32Array) => void;

/**
 * Fills arrays from weights, one at a time, and returns the mismatches: arrays that are missing or of another shape or type. Other arrays of the file are
 * ignored.
 * Throws BAD_WEIGHTS if the weights are of another model, FILE_UNREADABLE, BAD_FORMAT, and NOT_FINITE if an array holds NaN or Inf.
 */
export async function fillArrays(source: WeightSource, arrays: readonly FilledArray[], onArray?: OnArray): Promise<readonly Mismatch[]> {
  assertSameModel(source, arrays);
  const mismatches = findMismatches(source, arrays);
  const mismatched = new Set(mismatches.map(({ name }) => name));
  const wanted = new Map(arrays.filter(({ name }) => !mismatched.has(name)).map((array) => [array.name, array]));
  for await (const array of source.read(new Set(wanted.keys()))) {
    const values = floatsOf(array, source.path);
    const details = { file: source.path, parameter: array.name };
    try {
      assertFinite(values, "the weights contain NaN or Inf: the training that wrote them diverged", details);
    } catch (error) {
      throw await suggestEarlierSnapshot(error as NextvladError, source.snapshot);
    }
    onArray?.(array.name, values);
    wanted.get(array.name)?.upload(values);
  }
  return mismatches;
}

/** Fills all arrays from weights. Throws BAD_WEIGHTS with every mismatch, before any data is read, and what `fillArrays` throws. */
export async function fillAllArrays(
  source: WeightSource,
  arrays: readonly FilledArray[],
  remedy: string,
  onArray?: OnArray,
): Promise<void> {
  assertArraysMatch(source, arrays, remedy);
  await fillArrays(source, arrays, onArray);
}

/** Throws BAD_WEIGHTS if the aggregator of the weights is another model's. */
function assertSameModel(source: WeightSource, arrays: readonly WantedArray[]): void {
  const found = modelOf(source.entries.keys());
  const expected = modelOf(arrays.map(({ name }) => name));
  if (found === null || expected === null || found === expected) return;
  const remedy = "use weights of the same model, or set MODEL.name to theirs";
  throw new NextvladError("BAD_WEIGHTS", "these weights are of another model", {
    file: source.path,
    key: "MODEL.name",
    expected,
    found,
    remedy,
  });
}

/** Throws BAD_WEIGHTS if the weights are of another model, or with every mismatch. No data is read. */
export function assertArraysMatch(source: WeightSource, arrays: readonly WantedArray[], remedy: string): void {
  assertSameModel(source, arrays);
  const mismatches = findMismatches(source, arrays);
  if (mismatches.length === 0) return;
  const moments = arrays.filter(({ name }) => adamParameter(name) !== null);
  if (mismatches.length === moments.length && mismatches.every(({ name, found }) => found === null && adamParameter(name) !== null)) {
    throw new NextvladError("BAD_WEIGHTS", "the optimizer state, which resuming requires, is missing", {
      file: source.path,
      remedy: "start a new run from these weights with --pretrain",
    });
  }
  // If a parameter does not match, neither do its moments: list only the parameter.
  const mismatched = new Set(mismatches.map(({ name }) => name));
  const listed = mismatches.filter(({ name }) => !mismatched.has(adamParameter(name) ?? ""));
  const what = `${listed.length === 1 ? "an array does" : `${listed.length} arrays do`} not match the model`;
  const list = [listFirst(listed.map(describeMismatch), { separator: "; " }), ...describeExtra(source, arrays)].join("; ");
  throw new NextvladError("BAD_WEIGHTS", `${what}: ${list}`, { file: source.path, remedy });
}

/** Lists the unknown arrays of a file: they may be the missing arrays under other names. */
function describeExtra({ entries }: WeightSource, arrays: readonly WantedArray[]): readonly string[] {
  const wanted = new Set(arrays.map(({ name }) => name));
  const extra = [...entries].filter(([name]) => !wanted.has(name) && !isArrayName(name));
  if (extra.length === 0) return [];
  return [`not in the model: ${listFirst(extra.map(([name, { shape }]) => `${showText(name)} ${showText(show(shape))}`))}`];
}
