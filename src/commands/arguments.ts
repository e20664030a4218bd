import { NextvladError } from "../base/errors.js";

/** PaddleVideo's flags that have no meaning here, and what does their work. */
const REPLACEMENTS: ReadonlyMap<string, string> = new Map([
  ["--no-memory-optimize", "leave it out: memory is always reused"],
  ["--is-profiler", "leave it out: progress and log always tell how much of the time went into waiting for data"],
  ["--profiler-path", "leave it out: progress and log, in --save-dir, always tell how much of the time went into waiting for data"],
  ["--video-path", "use --filelist, with a list of TFRecord shards or a glob that matches them"],
  ["--enable-ce", "use --fix-random-seed True (runs are seeded anyway), or a number to choose the seed"],
]);

/**
 * Command-line arguments with dashes for the underscores in flags' names: `--batch_size=8` becomes `--batch-size=8`.
 * Throws BAD_USAGE for a flag of PaddleVideo's that does not exist here.
 */
export function normaliseArguments(args: readonly string[]): string[] {
  return args.map((arg) => {
    if (!arg.startsWith("--")) return arg;
    const end = arg.includes("=") ? arg.indexOf("=") : arg.length;
    const name = arg.slice(0, end).replaceAll("_", "-");
    const remedy = REPLACEMENTS.get(name);
    if (remedy !== undefined)
      throw new NextvladError("BAD_USAGE", "this flag of PaddleVideo's has no work to do here", { key: name, remedy });
    return name + arg.slice(end);
  });
}
