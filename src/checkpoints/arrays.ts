import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import type { StoredArray } from "../runtime/variables.js";
import { requireFinite } from "./finite.js";
import { adamParameter, isArrayName, modelOf } from "./model-arrays.js";
import { withEarlierSnapshot } from "./snapshot-check.js";
import { floatsOf, type WeightSource } from "./weight-source.js";

/** A mismatch between an array of a model and of a file: missing, or of another shape or type. */
export interface Misfit {
  readonly name: string;
  readonly expected: readonly number[];
  /** Null if the file has no such array. */
  readonly found: readonly number[] | null;
  /** The file's type, if the types differ. */
  readonly dtype?: string;
}

const show = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

/** Describes a mismatch: "logits_clf_bias should be [3862] and is [12]". */
export function describeMisfit({ name, expected, found, dtype }: Misfit): string {
  if (found === null) return `${name} ${show(expected)} is missing`;
  if (dtype !== undefined) return `${name} should be of type f4 and is ${dtype}`;
  return `${name} should be ${show(expected)} and is ${showText(show(found))}`;
}

/** An array that a model needs. */
type WantedArray = Pick<StoredArray, "name" | "shape">;

/** Compares names, shapes and types with the entries of a file, without reading data. */
export function findMisfits(source: WeightSource, arrays: readonly WantedArray[]): readonly Misfit[] {
  return arrays.flatMap(({ name, shape: expected }): Misfit[] => {
    const entry = source.entries.get(name);
    if (entry === undefined) return [{ name, expected, found: null }];
    if (show(entry.shape) !== show(expected)) return [{ name, expected, found: entry.shape }];
    return entry.dtype === "f4" ? [] : [{ name, expected, found: entry.shape, dtype: entry.dtype }];
  });
}

/** Called with each array's name and values. The values are borrowed: valid only during the call. */
export type SeeArray = (name: string, values: Float32Array) => void;

/**
 * Fills arrays from weights, one at a time, and returns the mismatches: arrays that are missing or of another shape or type. Other arrays of the file are
 * ignored.
 * Throws BAD_WEIGHTS if the weights are of another model, FILE_UNREADABLE, BAD_FORMAT, and NOT_FINITE if an array holds NaN or Inf.
 */
export async function fillArrays(source: WeightSource, arrays: readonly StoredArray[], see?: SeeArray): Promise<readonly Misfit[]> {
  assertSameModel(source, arrays);
  const misfits = findMisfits(source, arrays);
  const unfit = new Set(misfits.map(({ name }) => name));
  const wanted = new Map(arrays.filter(({ name }) => !unfit.has(name)).map((array) => [array.name, array]));
  for await (const array of source.read(new Set(wanted.keys()))) {
    const values = floatsOf(array, source.path);
    const details = { file: source.path, parameter: array.name };
    try {
      requireFinite(values, "the weights hold NaN or Inf: the training that wrote them diverged", details);
    } catch (error) {
      throw await withEarlierSnapshot(error as NextvladError, source.snapshot);
    }
    see?.(array.name, values);
    wanted.get(array.name)?.upload(values);
  }
  return misfits;
}

/** Fills all arrays from weights. Throws BAD_WEIGHTS with every mismatch, before any data is read, and what `fillArrays` throws. */
export async function fillAllArrays(source: WeightSource, arrays: readonly StoredArray[], remedy: string, see?: SeeArray): Promise<void> {
  requireFit(source, arrays, remedy);
  await fillArrays(source, arrays, see);
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
export function requireFit(source: WeightSource, arrays: readonly WantedArray[], remedy: string): void {
  assertSameModel(source, arrays);
  const misfits = findMisfits(source, arrays);
  if (misfits.length === 0) return;
  const moments = arrays.filter(({ name }) => adamParameter(name) !== null);
  if (misfits.length === moments.length && misfits.every(({ name, found }) => found === null && adamParameter(name) !== null)) {
    throw new NextvladError(
      "BAD_WEIGHTS",
      "the weights fit, but none of the optimizer's moments are there, without which a run cannot go on",
      {
        file: source.path,
        remedy: "start a new run from these weights with --pretrain",
      },
    );
  }
  // If a parameter does not fit, neither do its moments: list only the parameter.
  const unfit = new Set(misfits.map(({ name }) => name));
  const told = misfits.filter(({ name }) => !unfit.has(adamParameter(name) ?? ""));
  const what = `${told.length === 1 ? "an array does" : `${told.length} arrays do`} not fit the model`;
  const list = [listFirst(told.map(describeMisfit), { separator: "; " }), ...describeExtra(source, arrays)].join("; ");
  throw new NextvladError("BAD_WEIGHTS", `${what}: ${list}`, { file: source.path, remedy });
}

/** Lists the unknown arrays of a file: they may be the missing arrays under other names. */
function describeExtra({ entries }: WeightSource, arrays: readonly WantedArray[]): readonly string[] {
  const wanted = new Set(arrays.map(({ name }) => name));
  const extra = [...entries].filter(([name]) => !wanted.has(name) && !isArrayName(name));
  if (extra.length === 0) return [];
  return [`not in the model: ${listFirst(extra.map(([name, { shape }]) => `${showText(name)} ${showText(show(shape))}`))}`];
}
