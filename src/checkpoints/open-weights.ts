import { readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, normalize } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { FileReader } from "../formats/containers/file-reader.js";
import { looksLikeTar } from "../formats/containers/tar.js";
import { looksLikePickle } from "../formats/pickle/detect.js";
import { looksLikePaddleVariable } from "../formats/tensors/paddle-variable.js";
import { isArrayName } from "./model-arrays.js";
import { openSafetensors } from "./safetensors-source.js";
import { checkSnapshot, optimizerFile, requireSnapshot, requireWeights, weightsFile } from "./snapshot.js";
import type { WeightSource } from "./weight-source.js";

const FORMS =
  "a snapshot directory, a directory of Paddle variables or a .tar or .tar.gz of one, a .pdparams file (or its prefix), a .safetensors file, or a .npz file";

/**
 * Opens weights. The format is detected from the content, not the name: a snapshot directory; a directory of Paddle variables, or a tar of one (gzipped or
 * not); a .pdparams file (gzipped or not), or its prefix; a single safetensors file; a .npz file.
 * With `optimizer`, the state that resuming needs must be present too: a snapshot's moments, a .pdparams file's .pdopt.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_WEIGHTS, BAD_FORMAT, UNSAFE_PICKLE, BAD_SNAPSHOT.
 */
export async function openWeights(path: string, { optimizer }: { readonly optimizer: boolean }): Promise<WeightSource> {
  const found = await stat(path).catch(() => null);
  if (found === null) return openPickles(path, await withOptimizer(await findByPrefix(path), optimizer));
  return found.isDirectory() ? openDirectory(path, optimizer) : openFile(path, optimizer);
}

/** Opens weights with the optimizer state if it is present, and without it otherwise. */
export async function openWithOptimizerIfPresent(path: string): Promise<WeightSource> {
  return openWeights(path, { optimizer: true }).catch((error: unknown) => {
    if (error instanceof NextvladError && (error.code === "FILE_MISSING" || error.code === "BAD_SNAPSHOT"))
      return openWeights(path, { optimizer: false });
    throw error;
  });
}

async function openDirectory(path: string, optimizer: boolean): Promise<WeightSource> {
  const names = await readdir(path).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  if (names.includes(basename(weightsFile(path)))) return openSnapshot(path, optimizer);
  if (names.some(isArrayName)) return (await import("./paddle-variables.js")).openPaddleDirectory(path, isArrayName);
  // The published tar unpacks to a directory that has the variables one level down.
  const [only, ...others] = names;
  if (only !== undefined && others.length === 0 && (await stat(join(path, only))).isDirectory())
    return openDirectory(join(path, only), optimizer);
  const what = `no weights in this directory: ${names.length === 0 ? "it is empty" : listFirst(names)}`;
  throw new NextvladError("BAD_WEIGHTS", what, { file: path, expected: FORMS, remedy: "pass one of these" });
}

async function openSnapshot(path: string, optimizer: boolean): Promise<WeightSource> {
  if (optimizer) await checkSnapshot(path);
  else await requireWeights(path);
  const files = optimizer ? [weightsFile(path), optimizerFile(path)] : [weightsFile(path)];
  return openSafetensors(path, files, { form: "a snapshot", snapshot: path });
}

async function openFile(path: string, optimizer: boolean): Promise<WeightSource> {
  const { head, compressed } = await readHead(path);
  if (looksLikeTar(head)) return (await import("./paddle-variables.js")).openPaddleArchive(path, isArrayName);
  if (looksLikePickle(head)) return openPickles(path, await withOptimizer(path, optimizer));
  if (looksLikeSafetensors(head)) {
    if (compressed) throw unsupported(path, "gzipped safetensors files are not supported", "gunzip it first");
    const directory = dirname(path);
    // A snapshot's own file: its config and state are in the same directory.
    if (normalize(path) === weightsFile(directory) && (await isSnapshot(directory))) return openSnapshot(directory, optimizer);
    return openSafetensors(path, [path], { form: "a safetensors file", snapshot: null });
  }
  if (looksLikeZip(head) && !compressed) return (await import("./npz-source.js")).openNpz(path, isArrayName);
  if (looksLikePaddleVariable(head)) {
    throw unsupported(
      path,
      "a single Paddle variable, or several in one file without names",
      "pass a directory with one file per variable",
    );
  }
  throw unsupported(path, "not a file of weights", "check the path and the download (a web page here means that it failed)");
}

/** The readers of other formats are loaded when they are needed: most runs start from a snapshot. */
async function openPickles(path: string, files: readonly string[]): Promise<WeightSource> {
  return (await import("./paddle-pickle.js")).openPaddlePickles(path, files);
}

async function readHead(path: string): Promise<{ readonly head: Uint8Array; readonly compressed: boolean }> {
  const bytes = await FileReader.open(path);
  const { head, compressed } = bytes;
  await bytes.close();
  return { head, compressed };
}

/** Checks for an 8-byte little-endian length followed by a JSON header. */
function looksLikeSafetensors(head: Uint8Array): boolean {
  return head.length > 8 && head[8] === 0x7b && head.subarray(4, 8).every((byte) => byte === 0);
}

/** Checks for a local file header, or the end record of an empty archive. */
function looksLikeZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && ((head[2] === 3 && head[3] === 4) || (head[2] === 5 && head[3] === 6));
}

async function isSnapshot(directory: string): Promise<boolean> {
  return requireSnapshot(directory).then(
    () => true,
    () => false,
  );
}

function unsupported(path: string, what: string, remedy: string): NextvladError {
  return new NextvladError("BAD_WEIGHTS", what, { file: path, expected: FORMS, remedy });
}

const SUFFIXES = [".pdparams", ".pdparams.gz"];

/** Paddle's own functions accept `NEXTVLAD` for `NEXTVLAD.pdparams`. */
async function findByPrefix(prefix: string): Promise<string> {
  for (const suffix of SUFFIXES) {
    const path = `${prefix}${suffix}`;
    if ((await stat(path).catch(() => null))?.isFile()) return path;
  }
  throw new NextvladError("FILE_MISSING", `file or directory not found (also tried ${SUFFIXES.join(" and ")})`, {
    file: prefix,
    remedy: "check the path",
  });
}

/** Returns the file and, with `optimizer`, the .pdopt beside it. Throws FILE_MISSING if there is none. */
async function withOptimizer(pdparams: string, optimizer: boolean): Promise<readonly string[]> {
  if (!optimizer) return [pdparams];
  const prefix = pdparams.replace(/(\.pdparams)?(\.gz)?$/, "");
  const candidates = [`${prefix}.pdopt`, `${prefix}.pdopt.gz`];
  for (const file of candidates) if ((await stat(file).catch(() => null))?.isFile()) return [pdparams, file];
  throw new NextvladError("FILE_MISSING", "the optimizer state, which resuming requires, is not next to the weights", {
    file: pdparams,
    expected: candidates.map((file) => basename(file)).join(" or "),
    remedy: "copy it there, or start a new run from these weights with --pretrain",
  });
}

/** The address at which PaddleVideo's model zoo publishes the weights (weights_info in models/nextvlad/nextvlad.py of v1.5.1 and v1.8.0). */
const PUBLISHER = "https://paddlemodels.bj.bcebos.com/video_classification";
/** The directory in which PaddleVideo stores downloads (models/model.py). */
const DIRECTORY = join(".paddle", "weights");
const NAMES = ["nextvlad_youtube8m", "nextvlad_youtube8m.tar.gz", "NEXTVLAD.pdparams"];

/**
 * Returns the path of the published weights in `~/.paddle/weights/`, downloaded by PaddleVideo or the user. Throws FILE_MISSING with the download address if
 * there are none.
 */
export async function findPublishedWeights(): Promise<string> {
  const directory = join(homedir(), DIRECTORY);
  for (const name of NAMES) {
    const path = join(directory, name);
    if ((await stat(path).catch(() => null)) !== null) return path;
  }
  throw new NextvladError("FILE_MISSING", `no --weights given, and ${NAMES.join(", ")} not found`, {
    file: directory,
    key: "--weights",
    remedy: `use --weights, or download PaddleVideo's (${PUBLISHER}/${NAMES[1]} or ${PUBLISHER}/${NAMES[2]}) into that directory`,
  });
}
