import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { freeBytes } from "../base/output-checks.js";
import { parameterTable } from "../model/network.js";
import { countParameters } from "../model/parameters.js";
import { type ModelSection, modelSizes } from "../model/sizes.js";

/** Snapshots that a run will write. */
export interface SpaceNeed {
  /** An existing directory. */
  readonly directory: string;
  /** Number of snapshots at the end of the run. */
  readonly snapshots: number;
  readonly model: ModelSection;
  /** Whether they have the moving averages of the weights. */
  readonly ema: boolean;
  /** Names of existing snapshots whose space can be reused: they are removed, or count among those at the end of the run. */
  readonly reusable: readonly string[];
}

/** Size of the rest of a snapshot: two headers, the state and the config. */
const SMALL_FILES_BYTES = 64 * 1024;
const FLOAT_BYTES = 4;

/** Throws FILE_UNWRITABLE if the snapshots do not fit on the disk. */
export async function requireSpace({ directory, snapshots, model, ema, reusable }: SpaceNeed): Promise<void> {
  // Some file systems do not report their free space, so there is nothing to check.
  const free = await freeBytes(directory);
  if (free === null) return;
  const { all, trained } = countParameters(parameterTable(modelSizes(model)));
  // Every value, once or twice, and Adam's two moments of the trained ones.
  const snapshotBytes = FLOAT_BYTES * ((ema ? 2 : 1) * all + 2 * trained) + SMALL_FILES_BYTES;
  const availableBytes = free + (await sizeOf(reusable.map((name) => join(directory, name))));
  if (snapshots * snapshotBytes <= availableBytes) return;
  throw new NextvladError("FILE_UNWRITABLE", "not enough disk space for the run's snapshots", {
    file: directory,
    expected: `${gigabytes(snapshots * snapshotBytes)} for ${snapshots} of ${gigabytes(snapshotBytes)} each`,
    found: gigabytes(availableBytes),
    remedy: "free disk space, use another --save-dir, or train fewer epochs",
  });
}

/** Returns the total size in bytes of the files in some directories, counting hard links once: `best` shares its files with a snapshot. */
async function sizeOf(directories: readonly string[]): Promise<number> {
  const sizes = new Map<string, number>();
  for (const directory of directories) {
    for (const name of await readdir(directory).catch(() => [])) {
      const found = await stat(join(directory, name)).catch(() => null);
      if (found !== null) sizes.set(`${found.dev} ${found.ino}`, found.size);
    }
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toPrecision(3)} GB`;
}
