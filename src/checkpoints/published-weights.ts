import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { NextvladError } from "../base/errors.js";

/** The address at which PaddleVideo's model zoo publishes the weights (weights_info in models/nextvlad/nextvlad.py of v1.5.1 and v1.8.0). */
const PUBLISHER = "https://paddlemodels.bj.bcebos.com/video_classification";
/** The folder in which PaddleVideo stores downloads (models/model.py). */
const FOLDER = join(".paddle", "weights");
const NAMES = ["nextvlad_youtube8m", "nextvlad_youtube8m.tar.gz", "NEXTVLAD.pdparams"];

/**
 * Returns the path of the published weights in `~/.paddle/weights/`, downloaded by PaddleVideo or the user. Throws FILE_MISSING with the download address if
 * there are none.
 */
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
