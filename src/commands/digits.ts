import { prepareFolder, undoFolders } from "./folder.js";
import type { DigitsFlags } from "./options.js";
import { print } from "./output.js";

/** `nextvlad digits`: writes the shards, tells of it on stderr, and prints the files; returns the exit code. */
export function runDigits(flags: DigitsFlags): Promise<number> {
  return undoFolders(flags.out, () => writeDigits(flags));
}

async function writeDigits(flags: DigitsFlags): Promise<number> {
  await prepareFolder(flags.out);
  const { generateDigits } = await import("../digits/generate.js");
  const { files } = await generateDigits({
    out: flags.out,
    trainVideos: flags.trainVideos,
    validateVideos: flags.validateVideos,
    seed: flags.seed,
    log: (line) => process.stderr.write(`${line}\n`),
  });
  for (const file of files) await print(`${file}\n`);
  return 0;
}
