import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { prepareRun } from "../../test/helpers/runs.js";

const USAGE = "usage: make-compat CLI DIR: CLI is the built nextvlad.cjs of the version to keep; its files are written to DIR";

/** Writes the files of test/golden/compat/COMMIT with the `nextvlad` of that commit. Later versions must still read them. */
async function makeCompat(cli: string, directory: string): Promise<void> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  // A snapshot's config contains the paths of the lists, so use relative paths.
  process.chdir(directory);
  const config = await prepareRun(".", { trainVideos: 40, validateVideos: 40 });
  const run = (...args: string[]): string => execFileSync(process.execPath, [cli, ...args], { encoding: "utf8", stdio: "pipe" });

  // 2 steps per epoch: the snapshot at step 3 is in the middle of an epoch.
  run("train", "--config", config, "--save-dir", "run", "--epoch", "2", "--save-interval", "3");
  const weights = join("run", "NEXTVLAD_epoch1");
  for (const [format, out] of [
    ["safetensors", "exported.safetensors"],
    ["npz", "exported.npz"],
    ["pdparams", "exported.pdparams"],
  ] as const) {
    run("export", "--weights", weights, "--format", format, "--out", out);
  }

  const evaluate = (saveDir: string): string =>
    run("eval", "--weights", weights, "--batch-size", "4", "--predictions", "--save-interval", "1", "--save-dir", saveDir);
  evaluate("whole");
  failAt(join("validate1.tfrecord"), () => evaluate("stopped"));
  for (const name of ["run", "whole", "stopped"]) removeLogs(name);
  rmSync(join("run", "best"), { recursive: true });
}

/** Runs `work` while the last byte of a shard is corrupt, so that it fails there and saves partial results. Throws if `work` does not fail. */
function failAt(shard: string, work: () => void): void {
  const bytes = readFileSync(shard);
  const corrupt = Buffer.from(bytes);
  corrupt[corrupt.length - 1] = (corrupt.at(-1) as number) ^ 1;
  writeFileSync(shard, corrupt);
  try {
    work();
  } catch {
    return;
  } finally {
    writeFileSync(shard, bytes);
  }
  throw new Error(`${shard}: the corrupt record was not found`);
}

function removeLogs(directory: string): void {
  for (const name of readdirSync(directory)) if (/\.log\.jsonl$|\.tfevents\./.test(name)) rmSync(join(directory, name));
}

const [cli, directory, ...more] = process.argv.slice(2);
if (cli === undefined || directory === undefined || more.length > 0) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 2;
} else {
  await makeCompat(resolve(cli), resolve(directory));
}
