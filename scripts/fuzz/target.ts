/** What a fuzzer gives a parser: an input of bytes, also as a file, and how they are read. Every export of a file of `targets/` is of this kind. */
export interface Target {
  /** Each reads the input, to its end, and throws what it finds wrong. */
  readonly readers: readonly ((file: string, bytes: Uint8Array) => unknown)[];
  /** What is read in an input's place, one after the other: with its checksums mended, say, past which no chance would lead. */
  readonly forms?: (bytes: Uint8Array) => readonly Uint8Array[];
}

/** Parsers that are fuzzed, by their files in `targets/` and their folders in `corpus/`. */
export const PARSERS = [
  "tfrecord",
  "sequence-example",
  "pickle",
  "pickle-shard",
  "paddle-pickle",
  "npy",
  "npz",
  "safetensors",
  "paddle-variable",
  "tar",
  "config",
  "results",
] as const;

export type ParserName = (typeof PARSERS)[number];

/** Loads a parser's target. */
export async function loadTarget(parser: ParserName): Promise<Target> {
  const module = (await import(`./targets/${parser}.js`)) as { readonly target: Target };
  return module.target;
}

/** Takes all that an iteration gives. */
export async function drain(items: Iterable<unknown> | AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}
