import { listFirst } from "../base/problem-list.js";
import { showText, showValue } from "../base/shown-value.js";
import { describeComputation } from "../runtime/rounding.js";
import type { ShardInspection } from "./inspect-shard.js";
import type { WeightInspection } from "./inspect-weights.js";

const NAME_WIDTH = 12;
/** Maximum and minimum width of the bars of the frame histogram. */
const [MAX_BAR, MIN_BAR] = [40, 4];
const RANGE_WIDTH = 11;
const BAR_HEIGHTS = " ▁▂▃▄▅▆▇█";
const MAX_SHOWN_LABELS = 10;
/** Maximum number of context features and feature lists that are printed; --json has all. */
const MAX_SHOWN_FEATURES = 20;
/** Maximum length of a config value that is printed. */
const MAX_VALUE_LENGTH = 200;
/** Byte values per column of the value histogram. */
const COLUMN_VALUES = 8;

/** Formats an inspection of a shard as human-readable lines. The bars leave room for their numbers in `columns` columns. */
export function formatShard(found: ShardInspection, columns = 80): readonly string[] {
  const container = found.container === "SequenceExample" ? "single SequenceExample" : found.container;
  const compression = found.compression === "none" ? "not compressed" : found.compression;
  const context = Object.entries(found.context).map(([key, kinds]) => `${showName(key)} (${Object.keys(kinds).join(", ")})`);
  const lines = [
    ...row("file", `${found.file} (${found.size_bytes} bytes)`),
    ...row("kind", `${container}, ${compression}; ${describeLevels(found)}`),
    ...row("records", `${found.records}${found.read_to_end ? "" : " (the rest of the file is corrupt)"}`),
    ...row("ids", `${found.first_ids.map(showName).join(", ") || "none"}${found.has_more_ids ? ", ..." : ""}`),
    ...(found.repeated_ids > 0 ? row("", `${found.repeated_ids} records have the ID of an earlier record`) : []),
    ...(found.container === "pickle" ? [] : row("context", listFirst(context, { shown: MAX_SHOWN_FEATURES }) || "none")),
    ...formatFrames(found, columns),
    ...formatFeatures(found),
    ...formatLabels(found),
    ...row("problems", found.problems === 0 ? "none" : String(found.problems)),
    ...found.listed,
  ];
  if (found.unlisted > 0) lines.push(`... and ${found.unlisted} more.`);
  return lines.map((line) => line.trimEnd());
}

function formatFrames({ frames }: ShardInspection, columns: number): readonly string[] {
  if (frames === null) return [];
  const { min, max, median, mean, total, histogram } = frames;
  const maxVideos = Math.max(...histogram.map(({ videos }) => videos));
  const size = Math.max(MIN_BAR, Math.min(MAX_BAR, columns - NAME_WIDTH - RANGE_WIDTH - 2 - String(maxVideos).length));
  const bars = histogram.flatMap(({ from, to, videos }) => {
    const range = from === to ? `${from}` : `${from}-${to}`;
    return row("", `${range.padStart(RANGE_WIDTH)} ${"█".repeat(Math.ceil((size * videos) / maxVideos)).padEnd(size)} ${videos}`);
  });
  return [...row("frames", `${min} to ${max} per video, median ${median}, mean ${mean.toFixed(1)}, total ${total}`), ...bars];
}

function formatFeatures({ lists, features, unequal_lengths: unequal, records }: ShardInspection): readonly string[] {
  const entries = Object.entries(lists);
  const lines = entries.slice(0, MAX_SHOWN_FEATURES).flatMap(([name, list]) => {
    const feature = features[name];
    const isComplete = feature?.videos === list.videos;
    return [...(isComplete ? [] : formatList(name, list)), ...(feature === undefined ? [] : formatFeature(name, feature))];
  });
  if (entries.length > MAX_SHOWN_FEATURES) lines.push(...row("", `and ${entries.length - MAX_SHOWN_FEATURES} more feature lists`));
  const { first } = unequal;
  if (first !== null) {
    const example = `record ${first.record} has ${first.rgb} frames of rgb and ${first.audio} of audio`;
    lines.push(...row("lengths", `rgb and audio differ in length in ${unequal.records} of ${records} records: ${example}`));
  }
  return lines;
}

function formatLabels({ labels, segment_labels: { videos, segments, classes }, records }: ShardInspection): readonly string[] {
  const lines = [...row("labels", `${labels.videos_with_labels} of ${records} records have labels`)];
  if (labels.classes > 0) {
    const each = (labels.labels / labels.videos_with_labels).toFixed(2);
    const frequent = labels.most_frequent.slice(0, MAX_SHOWN_LABELS).map(({ label, videos: count }) => `${label} (${count})`);
    lines.push(
      ...row("", `${labels.labels} labels of ${labels.classes} classes (${labels.min} to ${labels.max}), ${each} per labeled video`),
      ...row("", `most frequent: ${frequent.join(", ")}`),
    );
  }
  if (videos > 0) {
    const counts = `${segments} labeled segments of ${classes} classes in ${videos} of ${records} records`;
    lines.push(...row("segments", `${counts} (YouTube-8M 2019); read instead of the video-level labels with --segments`));
  }
  return lines;
}

function describeLevels(found: ShardInspection): string {
  const {
    levels: { frame, video, other },
    records,
  } = found;
  const kinds: readonly [number, string][] = [
    [frame, found.container === "pickle" ? "frame-level videos" : "frame-level SequenceExamples"],
    [video, "video-level Examples, which no command supports"],
    [other, "messages without features"],
  ];
  const present = kinds.filter(([count]) => count > 0);
  if (present.length === 0) return records === 0 && found.problems === 0 ? "empty: 0 records" : "no readable record";
  return present.map(([count, kind]) => (count === records ? kind : `${count} ${kind}`)).join(", ");
}

/** Formats a list without statistics: one whose frames are not single bytes values of the same size. */
function formatList(name: string, { videos, types, frames, sizes }: ShardInspection["lists"][string]): readonly string[] {
  const range = ({ min, max }: { readonly min: number; readonly max: number }): string => (min === max ? `${min}` : `${min} to ${max}`);
  const names = Object.keys(types);
  const unit = names.length === 1 && names[0] === "bytes" ? "bytes" : "values";
  const note = names.includes("float") ? "; nextvlad convert quantizes them" : "";
  return row(showName(name), `${names.join(", ")}, ${range(sizes)} ${unit} per frame, ${range(frames)} frames, ${videos} videos${note}`);
}

function formatFeature(name: string, feature: ShardInspection["features"][string]): string[] {
  const sizes = Object.entries(feature.frame_bytes).map(([bytes, videos]) =>
    videos === feature.videos ? bytes : `${bytes} (${videos} videos)`,
  );
  const lines = [...row(showName(name), `${sizes.join(", ")} bytes per frame, ${feature.videos} videos`)];
  const { mean, standard_deviation: deviation, min, max, share_of_0: lowest, share_of_255: highest } = feature;
  if (mean === null || deviation === null) return lines;
  const ends = `${percent(lowest)} are 0, ${percent(highest)} are 255`;
  lines.push(...row("", `values ${min} to ${max}, mean ${mean.toFixed(2)}, standard deviation ${deviation.toFixed(2)}; ${ends}`));
  const columns = Array.from({ length: 256 / COLUMN_VALUES }, (_, column) =>
    feature.histogram.slice(column * COLUMN_VALUES, (column + 1) * COLUMN_VALUES).reduce((sum, count) => sum + count, 0),
  );
  const maxCount = Math.max(...columns);
  const bar = columns.map((count) => BAR_HEIGHTS[Math.ceil((count / maxCount) * (BAR_HEIGHTS.length - 1))]).join("");
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

/** Formats an inspection of weights as human-readable lines. */
export function formatWeights({
  path,
  form,
  step,
  state,
  model,
  config,
  parameters,
  values,
  optimizer,
  arrays,
  problems,
}: WeightInspection): readonly string[] {
  const lines = [...row("weights", path), ...row("kind", form)];
  if (step !== null) lines.push(...row("step", String(step)));
  if (state !== null) {
    const { epoch, step_in_epoch: inEpoch, seed, best, written_by: writer } = state;
    lines.push(...row("epoch", `${epoch} finished${inEpoch > 0 ? `, ${inEpoch} steps of the next one` : ""}; seed ${seed}`));
    const bestStep = best?.step === undefined ? "" : `, step ${best.step}`;
    if (best !== null) lines.push(...row("best", `epoch ${best.epoch}${bestStep}, GAP ${best.gap.toFixed(4)}`));
    if (writer !== null)
      lines.push(
        ...row(
          "written by",
          `nextvlad ${showText(writer.nextvlad)}, TensorFlow ${showText(writer.tensorflow)}, ${writer.device.toUpperCase()}${describeComputation(writer)}`,
        ),
      );
  }
  if (model !== null) {
    const { name, num_classes: classes, ...sizes } = model;
    lines.push(...row("model", name), ...row("classes", String(classes)), ...row("sizes", describeValues(sizes)));
    const others = Object.fromEntries(Object.entries(config ?? {}).filter(([key]) => !(key in model)));
    lines.push(...row("config", config === null ? "none" : describeValues(others)));
  }
  lines.push(...row("parameters", `${parameters} arrays, ${values} values`), ...row("optimizer", optimizer ? "state included" : "none"));
  if (model === null)
    lines.push(
      ...row(
        "arrays",
        listFirst(
          arrays.map(({ name, dtype, shape }) => `${showText(name)} ${showText(dtype)} [${showText(shape.join(", "))}]`),
          { shown: 10 },
        ),
      ),
    );
  lines.push(...row("problems", problems.length === 0 ? "none" : String(problems.length)), ...problems);
  return lines;
}

function describeValues(values: object): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} ${showText(Array.isArray(value) ? value.join(" ") : String(value), MAX_VALUE_LENGTH)}`)
    .join(", ");
}

/** Formats a row of a table: one line, or two if the name is long. */
function row(name: string, text: string): readonly string[] {
  return name.length < NAME_WIDTH ? [name.padEnd(NAME_WIDTH) + text] : [name, " ".repeat(NAME_WIDTH) + text];
}
