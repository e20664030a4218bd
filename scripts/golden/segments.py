"""Writes three files of test/golden: data/segments.tfrecord, a shard with segment labels as those of YouTube-8M 2019; data/segments.json, the segments
that it contains; and metrics/segments.json, random predictions of rated segments and their metrics.

usage: segments.py     (needs numpy and protobuf)
The shard's messages are tensorflow/core/example/{example,feature}.proto's, serialized by Python's protobuf. The format of the segments and the metrics
are google/youtube-8m's (readers.py, eval.py, eval_util.py, segment_eval_inference.py).
"""
import base64
import json
import os
import struct

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

random = np.random.RandomState(19)
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden")
CLASSES, RGB, AUDIO, SECONDS = 10, 6, 3, 5
FIELD = descriptor_pb2.FieldDescriptorProto


def make_example_class():
    file = descriptor_pb2.FileDescriptorProto(name="segments.proto", package="segments", syntax="proto3")

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, label, kind, of) in enumerate(fields, 1):
            made.field.add(name=field, number=number, label=label, type=kind, type_name=of and f".segments.{of}")
        return made

    def map_of(name, field, value, entry_name):
        made = message(name, (field, FIELD.LABEL_REPEATED, FIELD.TYPE_MESSAGE, f"{name}.{entry_name}"))
        entry = made.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_STRING)
        entry.field.add(name="value", number=2, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_MESSAGE, type_name=f".segments.{value}")

    lists = ("BytesList", FIELD.TYPE_BYTES), ("FloatList", FIELD.TYPE_FLOAT), ("Int64List", FIELD.TYPE_INT64)
    for name, kind in lists:
        message(name, ("value", FIELD.LABEL_REPEATED, kind, None))
    names = ("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")
    message("Feature", *((field, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, name) for field, name in names))
    message("FeatureList", ("feature", FIELD.LABEL_REPEATED, FIELD.TYPE_MESSAGE, "Feature"))
    map_of("Features", "feature", "Feature", "FeatureEntry")
    map_of("FeatureLists", "feature_list", "FeatureList", "FeatureListEntry")
    parts = ("context", "Features"), ("feature_lists", "FeatureLists")
    message("SequenceExample", *((field, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, name) for field, name in parts))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("segments.SequenceExample"))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(data):
    def checksum(part):
        crc = crc32c(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


Example = make_example_class()


def serialize(video):
    made = Example()
    made.context.feature["id"].bytes_list.value.append(video["id"].encode())
    made.context.feature["labels"].int64_list.value.extend(video["labels"])
    if video["ratings"] is not None:
        for field, values in (
            ("segment_labels", [c for _, c, _ in video["ratings"]]),
            ("segment_start_times", [start for start, _, _ in video["ratings"]]),
            ("segment_end_times", [start + SECONDS for start, _, _ in video["ratings"]]),
        ):
            made.context.feature[field].int64_list.value.extend(values)
        made.context.feature["segment_scores"].float_list.value.extend([score for _, _, score in video["ratings"]])
    for name in ("rgb", "audio"):
        for frame in video[name]:
            made.feature_lists.feature_list[name].feature.add().bytes_list.value.append(frame.tobytes())
    return made.SerializeToString(deterministic=True)


def make_video(number):
    frames = int(random.randint(7, 34))
    rgb = random.randint(0, 128, (frames, RGB)).astype(np.uint8)
    audio = random.randint(0, 256, (frames, AUDIO)).astype(np.uint8)
    starts = random.permutation(np.arange(0, frames - 2, SECONDS))[: random.randint(1, 5)]
    ratings = []
    for start in starts.tolist():
        for c in random.permutation(CLASSES)[: random.randint(1, 4)].tolist():
            score = float(random.rand() < 0.5)
            if score:
                rgb[start : start + SECONDS, c % RGB] |= 128
            ratings.append((start, c, score))
    if number == 3:
        # Rated twice: the last rating counts.
        start, c, score = ratings[0]
        ratings.append((start, c, 1 - score))
    labels = sorted(random.permutation(CLASSES)[: random.randint(0, 3)].tolist())
    return {"id": f"v{number:03}", "labels": labels, "ratings": {5: None, 8: []}.get(number, ratings), "rgb": rgb, "audio": audio}


def rated_segments(video):
    """The rated segments by start, with their rated classes, those of them that are labels, and their frames."""
    for start in sorted({start for start, _, _ in video["ratings"] or []}):
        scores = {c: score for at, c, score in video["ratings"] if at == start}
        part = slice(start, start + SECONDS)
        yield {
            "id": f"{video['id']}:{start}",
            "frames": len(video["rgb"][part]),
            "rated": sorted(scores),
            "labels": sorted(c for c, score in scores.items() if score > 0),
            "rgb": base64.b64encode(video["rgb"][part].tobytes()).decode(),
            "audio": base64.b64encode(video["audio"][part].tobytes()).decode(),
        }


videos = [make_video(number) for number in range(24)]
with open(os.path.join(GOLDEN, "data/segments.tfrecord"), "wb") as file:
    for video in videos:
        file.write(framed(serialize(video)))
with open(os.path.join(GOLDEN, "data/segments.json"), "w") as file:
    content = {
        "videos": [{"id": video["id"], "frames": len(video["rgb"]), "labels": video["labels"]} for video in videos],
        "segments": [segment for video in videos for segment in rated_segments(video)],
    }
    json.dump(content, file, indent=1)
    file.write("\n")


def average_precision(hits, positives):
    """`hits`: 0 or 1 for each prediction, the best first."""
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(np.sum(precisions * hits) / positives)


def case(name, levels, segments=300, classes=12):
    """Class 0 is rated and never positive, class 1 never rated. `levels`: number of different predictions; None for no ties."""
    weights = random.rand(segments, classes) < 0.25
    weights[:, 1] = False
    weights[np.arange(segments), 2 + np.arange(segments) % (classes - 2)] = True
    labels = weights & (random.rand(segments, classes) < np.linspace(0.1, 0.7, classes))
    labels[:, 0] = False
    predictions = 1 / (1 + np.exp(-random.randn(segments, classes) - labels))
    if levels is not None:
        predictions = (np.floor(predictions * levels) + 1) / (levels + 1)
    predictions = predictions.astype(np.float32)
    known = predictions * weights
    aps = {}
    for c in range(classes):
        rated = np.flatnonzero(weights[:, c])
        ranked = rated[np.argsort(-known[rated, c], kind="stable")]
        if labels[:, c].any():
            aps[c] = average_precision(labels[ranked, c], labels[:, c].sum())
    perr = 0
    for row in range(segments):
        count = labels[row].sum()
        top = [c for c in np.argsort(-known[row], kind="stable")[:count] if known[row, c] > 0]
        perr += labels[row, top].sum() / count if count else 0
    at, of = np.nonzero(weights)
    pooled = np.lexsort((at, of, -known[at, of]))
    return {
        "name": name,
        "classes": classes,
        "predictions": base64.b64encode(predictions.tobytes()).decode(),
        "rated": [np.flatnonzero(row).tolist() for row in weights],
        "labels": [np.flatnonzero(row).tolist() for row in labels],
        "expected": {
            "map_at_k": float(np.mean(list(aps.values()))),
            "classes": len(aps),
            "hit_at_one": float(np.mean(labels[np.arange(segments), np.argmax(known, axis=1)])),
            "perr": float(perr / segments),
            "gap": average_precision(labels[at[pooled], of[pooled]], labels.sum()),
            "map": float(sum(aps.values()) / classes),
        },
    }


cases = [case("no ties", None), case("ties", 16), case("only ties", 1)]
with open(os.path.join(GOLDEN, "metrics/segments.json"), "w") as file:
    json.dump(cases, file)
    file.write("\n")
