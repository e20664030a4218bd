import { listFirst } from "../base/problem-list.js";
import { showText, showValue } from "../base/shown-value.js";
import type { Inspection } from "./inspect.js";

const WIDTH = 12;
const BAR = 40;
const BLOCKS = " ▁▂▃▄▅▆▇█";
const SHOWN_LABELS = 10;
/** Maximum number of context features and feature lists that are printed; --json has all. */
const SHOWN_FEATURES = 20;
/** Byte values per column of the value histogram. */
const COLUMN_VALUES = 8;

/** Formats an inspection as human-readable lines. */
export function formatInspection(found: Inspection): readonly string[] {
  const { labels, frames, features } = found;
  const lines = [
    ...row("file", `${found.file} (${found.size_bytes} bytes)`),
    ...row(
      "kind",
      `${found.container === "SequenceExample" ? "outside a TFRecord file" : found.container}, ${found.compression === "none" ? "not compressed" : found.compression}; ${describeLevels(found)}`,
    ),
    ...row("records", `${found.records}${found.read_to_end ? "" : ", then the file is damaged"}`),
    ...row("ids", `${found.first_ids.map(showName).join(", ") || "none"}${found.has_more_ids ? ", ..." : ""}`),
  ];
  if (found.repeated_ids > 0) lines.push(...row("", `${found.repeated_ids} records repeat an id`));
  const context = Object.entries(found.context).map(([key, kinds]) => `${showName(key)} (${Object.keys(kinds).join(", ")})`);
  if (found.container !== "pickle") lines.push(...row("context", listFirst(context, { shown: SHOWN_FEATURES }) || "none"));
  if (frames !== null) {
    lines.push(
      ...row(
        "frames",
        `${frames.min} to ${frames.max} a video, median ${frames.median}, mean ${frames.mean.toFixed(1)}, ${frames.total} in all`,
      ),
    );
    const most = Math.max(...frames.histogram.map(({ videos }) => videos));
    for (const { from, to, videos } of frames.histogram) {
      const range = from === to ? `${from}` : `${from}-${to}`;
      lines.push(...row("", `${range.padStart(11)} ${"█".repeat(Math.ceil((BAR * videos) / most)).padEnd(BAR)} ${videos}`));
    }
  }
  const lists = Object.entries(found.lists);
  for (const [name, list] of lists.slice(0, SHOWN_FEATURES)) {
    const feature = features[name];
    if (feature?.videos !== list.videos) lines.push(...formatList(name, list));
    if (feature !== undefined) lines.push(...formatFeature(name, feature));
  }
  if (lists.length > SHOWN_FEATURES) lines.push(...row("", `and ${lists.length - SHOWN_FEATURES} more feature lists`));
  const { records: unequal, first } = found.unequal_lengths;
  if (first !== null) {
    const example = `record ${first.record} has ${first.rgb} frames of rgb and ${first.audio} of audio`;
    lines.push(...row("lengths", `rgb and audio differ in length in ${unequal} of ${found.records} records: ${example}`));
  }
  lines.push(...row("labels", `${labels.videos_with_labels} of ${found.records} records have some`));
  if (labels.classes > 0) {
    const each = (labels.labels / labels.videos_with_labels).toFixed(2);
    lines.push(
      ...row("", `${labels.labels} in all, ${each} a labelled video, of ${labels.classes} classes, ${labels.min} to ${labels.max}`),
    );
    const frequent = labels.most_frequent.slice(0, SHOWN_LABELS).map(({ label, videos }) => `${label} (${videos})`);
    lines.push(...row("", `most frequent: ${frequent.join(", ")}`));
  }
  const { videos, segments, classes } = found.segment_labels;
  if (videos > 0) {
    const counts = `${segments} labelled segments of ${classes} classes in ${videos} of ${found.records} records`;
    lines.push(...row("segments", `${counts} (YouTube-8M 2019); no command uses them: video-level labels are used`));
  }
  lines.push(...row("problems", found.problems === 0 ? "none" : String(found.problems)), ...found.listed);
  if (found.unlisted > 0) lines.push(`... and ${found.unlisted} more.`);
  return lines.map((line) => line.trimEnd());
}

/** Formats a row of a table: one line, or two if the name is long. */
export function row(name: string, text: string): readonly string[] {
  return name.length < WIDTH ? [name.padEnd(WIDTH) + text] : [name, " ".repeat(WIDTH) + text];
}

function describeLevels(found: Inspection): string {
  const {
    levels: { frame, video, other },
    records,
  } = found;
  const kinds: readonly [number, string][] = [
    [frame, found.container === "pickle" ? "frame-level videos" : "frame-level SequenceExamples"],
    [video, "video-level Examples, which serve for no command here"],
    [other, "messages without features"],
  ];
  const there = kinds.filter(([count]) => count > 0);
  if (there.length === 0) return records === 0 && found.problems === 0 ? "empty: 0 records" : "no record that can be read";
  return there.map(([count, kind]) => (count === records ? kind : `${count} ${kind}`)).join(", ");
}

/** Formats a list without statistics: one whose frames are not single bytes values of the same size. */
function formatList(name: string, { videos, types, frames, sizes }: Inspection["lists"][string]): readonly string[] {
  const range = ({ min, max }: { readonly min: number; readonly max: number }): string => (min === max ? `${min}` : `${min} to ${max}`);
  const names = Object.keys(types);
  const unit = names.length === 1 && names[0] === "bytes" ? "bytes" : "values";
  const note = names.includes("float") ? "; nextvlad convert makes bytes of them" : "";
  return row(showName(name), `${names.join(", ")}, ${range(sizes)} ${unit} a frame, ${range(frames)} frames, ${videos} videos${note}`);
}

function formatFeature(name: string, feature: Inspection["features"][string]): string[] {
  const sizes = Object.entries(feature.frame_bytes).map(([bytes, videos]) =>
    videos === feature.videos ? bytes : `${bytes} (${videos} videos)`,
  );
  const lines = [...row(showName(name), `${sizes.join(", ")} bytes a frame, ${feature.videos} videos`)];
  const { mean, standard_deviation: deviation, min, max, share_of_0: lowest, share_of_255: highest } = feature;
  if (mean === null || deviation === null) return lines;
  const ends = `${percent(lowest)} are 0, ${percent(highest)} are 255`;
  lines.push(...row("", `values ${min} to ${max}, mean ${mean.toFixed(2)}, standard deviation ${deviation.toFixed(2)}; ${ends}`));
  const columns = Array.from({ length: 256 / COLUMN_VALUES }, (_, column) =>
    feature.histogram.slice(column * COLUMN_VALUES, (column + 1) * COLUMN_VALUES).reduce((sum, count) => sum + count, 0),
  );
  const most = Math.max(...columns);
  const bar = columns.map((count) => BLOCKS[Math.ceil((count / most) * (BLOCKS.length - 1))]).join("");
  lines.push(...row("", `0 |${bar}| 255`));
  return lines;
}

/** Formats an ID or a name from the shard; in quotes if it is not plain ASCII. */
function showName(text: string): string {
  return /^[\x21-\x7e]+$/.test(text) ? showText(text) : showValue(text);
}

function percent(share: number | null): string {
  return `${((share ?? 0) * 100).toFixed(2)} %`;
}
