import { escapeBytes } from "../base/byte-text.js";
import { deserializeError, type NextvladError } from "../base/errors.js";
import { groupErrors, listFirst } from "../base/problem-list.js";
import { showPath, showText } from "../base/shown-value.js";
import { describeRepeated, type RepeatedShard } from "../data/file-list.js";
import { allEmpty, describeEmpty, describeSegments } from "../data/shard.js";
import type { RepeatedId, ShardResult, Verification } from "./verify.js";

/** Maximum number of repeated IDs in the text; the JSON report has more. */
const MAX_SHOWN_REPEATS = 3;

/** What the report says besides the results of the check. */
export interface ReportContext {
  readonly list: string;
  /** Problem of the list itself, such as missing files; null if it has none. */
  readonly listProblem: NextvladError | null;
  readonly repeated: readonly RepeatedShard[];
  readonly seconds: number;
}

/** Returns the report that --json prints. `problems` and `problems_by_code` count all problems, even if the lists are truncated. */
export function verifyReport({ stopped, shards, repeatedRecords, repeats }: Verification, context: ReportContext) {
  const { list, listProblem, repeated, seconds } = context;
  const empty = shards.filter(({ state, records }) => state === "whole" && records === 0).map(({ path }) => path);
  const listProblems = listProblem === null ? [] : [listProblem.message];
  if (shards.length > 0 && empty.length === shards.length) listProblems.push(allEmpty(list, shards.length).message);
  const sum = (count: (shard: ShardResult) => number): number => shards.reduce((total, shard) => total + count(shard), 0);
  const kinds = new Map<string, number>();
  for (const { problems } of shards) for (const [code, count] of problems) kinds.set(code, (kinds.get(code) ?? 0) + count);
  const bytes = sum((shard) => shard.checkedBytes);
  return {
    list,
    stopped,
    shards: shards.length,
    shards_with_problems: shards.filter(({ problems }) => problems.size > 0).length,
    bytes,
    records: sum((shard) => shard.records),
    videos: sum((shard) => shard.videos),
    frames: sum((shard) => shard.frames),
    videos_without_labels: sum((shard) => shard.unlabeled),
    videos_with_segment_labels: sum((shard) => shard.segmented),
    empty_shards: empty,
    repeated_shards: repeated.map(({ path, times }) => ({ file: path, times })),
    seconds,
    bytes_per_second: bytes / seconds,
    problems: listProblems.length + sum((shard) => shard.problemCount) + repeatedRecords,
    problems_by_code: Object.fromEntries(kinds),
    list_problems: listProblems,
    records_with_repeated_id: repeatedRecords,
    repeated_ids: repeats.map(({ id, records }) => ({
      id: escapeBytes(id),
      records: records.map(({ path, record }) => ({ file: path, record })),
    })),
    files: shards.map(reportShard),
  };
}

export type VerifyReport = ReturnType<typeof verifyReport>;

function reportShard(shard: ShardResult) {
  return {
    file: shard.path,
    size_bytes: shard.sizeBytes,
    checked_bytes: shard.checkedBytes,
    state: shard.state,
    records: shard.records,
    videos: shard.videos,
    frames: shard.frames,
    videos_without_labels: shard.unlabeled,
    problems: shard.problemCount,
    problems_by_code: Object.fromEntries(shard.problems),
    listed: shard.listed.map((error) => {
      const { details, message } = deserializeError(error);
      const { record = null, byteOffset = null, video = null, expected = null, found = null } = details;
      return {
        code: error.code,
        record,
        byte_offset: byteOffset,
        video: video === null ? null : escapeBytes(video),
        what: error.what,
        expected,
        found,
        message,
      };
    }),
  };
}

/** Formats the report as human-readable lines: one per kind of problem, then the counts. */
export function formatVerification({ shards, repeats }: Verification, report: VerifyReport): readonly string[] {
  const listed = shards.flatMap((shard) => shard.listed);
  const problems = groupErrors(listed).map(({ message }) => message);
  const lines = [...report.list_problems, ...formatWarnings(report), ...problems, ...formatBroken(shards)];
  const unlisted = shards.reduce((sum, { problemCount }) => sum + problemCount, 0) - listed.length;
  if (unlisted > 0) lines.push(`${unlisted} more problems are not listed.`);
  const repeated = report.records_with_repeated_id;
  lines.push(...repeats.slice(0, MAX_SHOWN_REPEATS).map(formatRepeat));
  if (repeats.length > MAX_SHOWN_REPEATS) lines.push(`${repeats.length - MAX_SHOWN_REPEATS} more IDs are repeated; --json lists them.`);
  const rate = `${(report.bytes / 1e9).toFixed(2)} GB in ${report.seconds.toFixed(1)} s, ${Math.round(report.bytes_per_second / 1e6)} MB/s`;
  const counts = `${report.records} records, ${report.videos} valid videos (${report.videos_without_labels} without labels), ${report.frames} frames`;
  lines.push(`[VERIFY] verify ${report.stopped ? "stopped" : "finished"}. \tshards: ${report.shards},\t${counts} (${rate})`);
  const kinds = Object.entries(report.problems_by_code).map(([code, count]) => `${code} ${count}`);
  if (report.list_problems.length > 0) kinds.unshift(`in the list ${report.list_problems.length}`);
  if (repeated > 0) kinds.push(`repeated ids ${repeated}`);
  if (report.problems === 0) lines.push(report.stopped ? "no problems in what was checked" : "no problems");
  else lines.push(`problems: ${report.problems} (${kinds.join(", ")}), in ${report.shards_with_problems} of ${report.shards} shards`);
  return lines;
}

function formatWarnings({
  list,
  shards,
  empty_shards: empty,
  repeated_shards: repeated,
  videos_with_segment_labels: segmented,
}: VerifyReport) {
  const repeats = describeRepeated(
    list,
    repeated.map(({ file, times }) => ({ path: file, times })),
  );
  return [
    repeats === null ? null : `${repeats}; verify checks each once; other commands read each repetition again`,
    describeEmpty(empty, shards),
    segmented === 0 ? null : describeSegments(segmented, "videos"),
  ].flatMap((warning) => (warning === null ? [] : [`warning: ${warning}`]));
}

function formatBroken(shards: readonly ShardResult[]): string[] {
  const broken = shards.filter(({ state, records }) => state === "broken" && records > 0);
  if (broken.length === 0) return [];
  const places = broken.map(({ path, records }) => `${showPath(path)} (after ${records} ${records === 1 ? "record" : "records"})`);
  const count = broken.length === 1 ? "1 shard" : `${broken.length} shards`;
  return [`${count} could not be read to the end: ${listFirst(places, { separator: "; " })}.`];
}

function formatRepeat({ id, records }: RepeatedId): string {
  const places = records.map(({ path, record }) => `${showPath(path)}, record ${record}`);
  return `video ${showText(escapeBytes(id))} occurs ${records.length} times: ${listFirst(places, { separator: "; " })}.`;
}
