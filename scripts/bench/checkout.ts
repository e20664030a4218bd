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

/** Returns the path of the config for AudioSet in a checkout. */
export function audiosetConfigOf(root: string): string {
  return join(root, "configs/audioset.yaml");
}
