import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { NextvladError } from "../base/errors.js";

/** Where PaddleVideo's model zoo publishes the weights (weights_info in models/nextvlad/nextvlad.py of v1.5.1 and v1.8.0). */
const PUBLISHER = "https://paddlemodels.bj.bcebos.com/video_classification";
/** Where PaddleVideo keeps what it downloads (models/model.py). */
const FOLDER = join(".paddle", "weights");
const NAMES = ["nextvlad_youtube8m", "nextvlad_youtube8m.tar.gz", "NEXTVLAD.pdparams"];

/** The published weights, where PaddleVideo or the user put them: `~/.paddle/weights/`. Throws FILE_MISSING with the address to get them from. */
export async function findPublishedWeights(): Promise<string> {
  const folder = join(homedir(), FOLDER);
  for (const name of NAMES) {
    const path = join(folder, name);
    if ((await stat(path).catch(() => null)) !== null) return path;
  }
  throw new NextvladError("FILE_MISSING", `no weights are named, and none of ${NAMES.join(", ")} is there`, {
    file: folder,
    key: "--weights",
    remedy: `name weights with --weights, or download those that PaddleVideo publishes (${PUBLISHER}/${NAMES[1]} or ${PUBLISHER}/${NAMES[2]}) into that folder`,
  });
}
