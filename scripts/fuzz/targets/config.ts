import { buildConfig, loadConfig } from "../../../src/config/load.js";
import type { Target } from "../target.js";

export const target: Target = {
  readers: [
    (file) => loadConfig(file),
    // As the text of a `--set`.
    (_, bytes) => buildConfig({ MODEL: {} }, "config.yaml", { settings: [`TRAIN.filelist=${Buffer.from(bytes).toString("utf8")}`] }),
  ],
};
