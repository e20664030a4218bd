import { readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { resolveOutputFile } from "../base/output-checks.js";
import { listFirst } from "../base/problem-list.js";
import { showPath } from "../base/shown-value.js";
import { describeFileList, describeRepeated, type FileList, findShards, formatFileList, isShellPipe } from "../data/file-list.js";
import { uniqueShards } from "../data/shard.js";
import type { ConversionTask, ShardFormat } from "./convert-worker.js";
import { DEFAULT_RANGE } from "./features.js";
import { featurePath, type OwnFeature, type OwnSource, readLabelTable } from "./own-features.js";
import type { ShardSource } from "./record-video.js";

/** One shard to write, and its origin, which determines whether an existing shard is up to date. */
export interface PlannedShard {
  readonly task: ConversionTask;
  readonly origin: Origin;
}

/** The files that a shard is converted from, and the settings. */
export interface Origin {
  /** Path of the source shard or the label table. */
  readonly from: string;
  readonly files: number;
  readonly bytes: number;
  /** Modification time of the newest file, in ms. */
  readonly modified_ms: number;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** All shards to write, in order and without duplicates, and the list of them. */
export interface ConversionPlan {
  readonly shards: readonly PlannedShard[];
  /** The list or label table that names the sources. */
  readonly list: string;
  readonly listName: string;
  /** Content of the new list: the shards' names, each as often as its source is listed. */
  readonly listText: string;
  readonly warnings: readonly string[];
}

interface PlanOptions {
  readonly out: string;
  readonly format: ShardFormat;
  readonly maxFrames: number;
  readonly maxRecordBytes?: number | undefined;
}

/** Options of `planShards`. */
export type ShardPlanOptions = PlanOptions & Omit<ShardSource, "kind" | "path">;

const EXTENSIONS = /(\.(tfrecords?|pkl|pickle|pb))?(\.(gz|zlib))?$/i;

/**
 * Plans the conversion of the shards in a list, each once, to a shard of the same name. Throws what `findShards` throws, FILE_MISSING for missing shards, and
 * BAD_USAGE if two shards have the same name.
 */
export async function planShards(
  list: FileList,
  { out, format, maxFrames, maxRecordBytes, ...source }: ShardPlanOptions,
): Promise<ConversionPlan> {
  const { shards: listed, repeated, problem, warnings: skipped } = await findShards(list, { cwd: process.cwd() });
  if (problem !== null) throw problem;
  const outputOf = (path: string): string => join(out, `${basename(path).replace(EXTENSIONS, "")}.${format}`);
  // Defaults are omitted because the ledgers of earlier versions do not have them: their shards stay up to date.
  const { featureNames, dtype, ranges } = source;
  const isDefault = ranges.every((range) => range[0] === DEFAULT_RANGE[0] && range[1] === DEFAULT_RANGE[1]);
  const settings = { featureNames, maxFrames, ...(dtype === undefined ? {} : { dtype }), ...(isDefault ? {} : { ranges }) };
  const shards = await Promise.all(
    uniqueShards(listed).map(async ({ path }): Promise<PlannedShard> => {
      const origin = { from: path, ...(await measureFiles([path])), settings };
      return { task: { source: { kind: "shard", path, ...source }, format, output: outputOf(path), maxFrames, maxRecordBytes }, origin };
    }),
  );
  await assertUniqueOutputs(shards);
  const outputs = listed.map(({ path }) => outputOf(path));
  if (typeof list !== "string" || isShellPipe(list)) await assertReplaceableList(join(out, listNameOf(list)), outputs);
  const repeats = describeRepeated(list, repeated);
  const warnings = [...skipped, ...(repeats === null ? [] : [`${repeats}; each is converted once, and listed as often`])];
  return { shards, list: describeFileList(list), listName: listNameOf(list), listText: formatList(outputs), warnings };
}

/** Formats a list with names only, so that it can be moved together with its shards. */
function formatList(outputs: readonly string[]): string {
  return formatFileList(outputs.map((output) => basename(output)));
}

/** Throws BAD_USAGE if the new list would replace one of other shards. For lists from a pipe or of several shards, whose name does not identify them. */
async function assertReplaceableList(path: string, outputs: readonly string[]): Promise<void> {
  await resolveOutputFile(path);
  const names = new Set(formatList(outputs).split("\n"));
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw fileError(error, path, "read");
  });
  const lost = text.split("\n").filter((line) => line !== "" && !names.has(line));
  const [first] = lost;
  if (first === undefined) return;
  throw new NextvladError("BAD_USAGE", `the new list would replace a list of other shards, such as ${showPath(first)}`, {
    file: path,
    remedy: "use another --out, or write the list to a file: the new list gets its name",
  });
}

/** Returns the identity of an existing file, independent of path and links, or null. */
export async function identify(path: string): Promise<string | null> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  return found === null ? null : `${found.dev}:${found.ino}`;
}

/** Throws BAD_USAGE if two shards would get the same path, or if a shard would replace a source. */
async function assertUniqueOutputs(shards: readonly PlannedShard[]): Promise<void> {
  const sources = new Set(await Promise.all(shards.map(({ origin }) => identify(origin.from))));
  sources.delete(null);
  const fromOf = new Map<string, string>();
  for (const { task, origin } of shards) {
    const other = fromOf.get(task.output);
    if (other !== undefined || sources.has(await identify(task.output))) {
      const what =
        other === undefined
          ? "the output would replace a source shard"
          : `two shards would have the same output: ${showPath(other)} and ${showPath(origin.from)}`;
      const remedy = "use another --out, or rename a source";
      throw new NextvladError("BAD_USAGE", what, { file: task.output, key: "--out", remedy });
    }
    fromOf.set(task.output, origin.from);
  }
}

/** Returns the name of the new list: `train.list` for `train.list`, `train*.tfrecord` and `train.csv`. */
function listNameOf(list: FileList): string {
  if (typeof list !== "string") return `${commonStem(list.map((path) => basename(path))) || "shards"}.list`;
  if (isShellPipe(list)) return "shards.list";
  const stem = basename(list)
    .replace(/[*?[].*$/, "")
    .replace(/\.(list|txt|csv)$/i, "")
    .replace(EXTENSIONS, "");
  return `${stem === "" ? "shards" : stem}.list`;
}

/** Returns the common prefix of names: `train` for `train0000.tfrecord` and `train0001.tfrecord`. */
function commonStem([first = "", ...others]: readonly string[]): string {
  let length = first.length;
  for (const name of others) while (!name.startsWith(first.slice(0, length))) length--;
  return first.slice(0, length).replace(/[\d._-]*$/, "");
}

/** Options of `planOwnFeatures`. */
export interface OwnFeaturePlanOptions extends PlanOptions {
  readonly features: readonly [OwnFeature | null, OwnFeature | null];
  readonly videosPerShard: number;
}

/** Plans the conversion of the videos in a label table, in its order. Throws what `readLabelTable` throws, and FILE_MISSING with all missing feature files. */
export async function planOwnFeatures(table: string, options: OwnFeaturePlanOptions): Promise<ConversionPlan> {
  const { out, format, maxFrames, features, videosPerShard } = options;
  const videos = await readLabelTable(table);
  if (videos.length === 0)
    throw new NextvladError("TOO_FEW_VIDEOS", "the table has no videos", { file: table, remedy: "write one line per video" });
  const listName = listNameOf(table);
  const stem = listName.replace(/\.list$/, "");
  const shards: PlannedShard[] = [];
  const missing: string[] = [];
  for (let first = 0; first < videos.length; first += videosPerShard) {
    const part = videos.slice(first, first + videosPerShard);
    const source: OwnSource = { kind: "own", table, videos: part, features };
    const paths = part.flatMap(({ id }) => features.flatMap((own) => (own === null ? [] : [featurePath(own, id)])));
    const measured = await measureFiles(paths, missing);
    const output = join(out, `${stem}${String(shards.length).padStart(4, "0")}.${format}`);
    const settings = { features, maxFrames, videos: part.map(({ id, labels }) => [id, labels]) };
    shards.push({ task: { source, format, output, maxFrames }, origin: { from: resolve(table), ...measured, settings } });
  }
  if (missing.length > 0) throw missingFeatures(missing, table);
  return { shards, list: table, listName, listText: formatList(shards.map(({ task }) => task.output)), warnings: [] };
}

/** Returns the number, total size and newest modification time of files. Missing files are added to `missing` if it is given; otherwise throws FILE_MISSING. */
async function measureFiles(paths: readonly string[], missing?: string[]): Promise<{ files: number; bytes: number; modified_ms: number }> {
  let [bytes, modified_ms] = [0, 0];
  for (const path of paths) {
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (missing === undefined || error.code !== "ENOENT") throw fileError(error, path, "read");
      missing.push(path);
    });
    bytes += found?.size ?? 0;
    modified_ms = Math.max(modified_ms, found?.mtimeMs ?? 0);
  }
  return { files: paths.length, bytes, modified_ms };
}

function missingFeatures(missing: readonly string[], table: string): NextvladError {
  const files = missing.length === 1 ? "feature file" : `${missing.length} feature files`;
  return new NextvladError("FILE_MISSING", `${files} not found: ${listFirst(missing.map(showPath))}`, {
    file: table,
    remedy: "check the IDs and the path pattern with {id}",
  });
}
