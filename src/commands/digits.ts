import type { DigitsFlags } from "./flags.js";
import { printResult, printToStderr } from "./output.js";
import { prepareDirectory, removeDirectoriesOnError } from "./output-directory.js";

/** `nextvlad digits`: writes the shards, reports progress on stderr, and prints the files; returns the exit code. */
export function runDigits(flags: DigitsFlags): Promise<number> {
  return removeDirectoriesOnError(flags.out, () => writeDigits(flags));
}

async function writeDigits(flags: DigitsFlags): Promise<number> {
  await prepareDirectory(flags.out);
  const { generateDigits } = await import("../digits/generate.js");
  const { files } = await generateDigits({
    out: flags.out,
    trainVideos: flags.trainVideos,
    validateVideos: flags.validateVideos,
    seed: flags.seed,
    overwrite: flags.overwrite ?? false,
    log: (line) => printToStderr(line),
  });
  await printResult(flags, { files }, files);
  return 0;
}
