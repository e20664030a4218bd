/** A fuzz target: how to read an input, given as bytes and as a file. Each file in `targets/` exports one as `target`. */
export interface Target {
  /** Each reads the whole input and throws if it is invalid. */
  readonly readers: readonly ((file: string, bytes: Uint8Array) => unknown)[];
  /** Variants to read in place of the input, for example with corrected checksums, which random mutations would never match. */
  readonly forms?: (bytes: Uint8Array) => readonly Uint8Array[];
}

/** Fuzzed parsers: the names of their files in `targets/` and of their directories in `corpus/`. */
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
  "cluster",
  "results",
  "diagnostics",
  "run-log",
  "class-list",
] as const;

export type ParserName = (typeof PARSERS)[number];

/** Loads a parser's target. */
export async function loadTarget(parser: ParserName): Promise<Target> {
  const module = (await import(`./targets/${parser}.js`)) as { readonly target: Target };
  return module.target;
}

/** Consumes an iterable to its end. */
export async function drain(items: Iterable<unknown> | AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}
