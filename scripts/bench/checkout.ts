import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of this checkout. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Path of the published recipe's config, whose sizes are measured unless another one is given. */
export const FULL_SIZE = join(ROOT, "configs/nextvlad.yaml");

/** Returns the path of the nextvlad program of a checkout, which must be built. */
export function cliOf(root: string): string {
  return join(root, "dist/src/nextvlad.cjs");
}

/** Path of the config with the best recipe for AudioSet. */
export const AUDIOSET_BEST = join(ROOT, "configs/audioset.yaml");

/** Returns the path of the config with the plain recipe for AudioSet in a checkout; PyTorch trains with the same one. */
export function audiosetConfigOf(root: string): string {
  const plain = join(root, "configs/audioset-plain.yaml");
  // Before audioset-plain.yaml, a checkout's audioset.yaml was plain.
  return existsSync(plain) ? plain : join(root, "configs/audioset.yaml");
}
