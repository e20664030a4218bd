import { buildConfig, loadConfig } from "../../../src/config/load.js";
import type { Target } from "../target.js";

export const target: Target = {
  readers: [
    (file) => loadConfig(file),
    // The input as a value of `--set`.
    (_, bytes) => buildConfig({ MODEL: {} }, "config.yaml", { settings: [`TRAIN.filelist=${Buffer.from(bytes).toString("utf8")}`] }),
  ],
};
