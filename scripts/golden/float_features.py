"""Writes test/golden/data/float_features.json: SequenceExamples with float features, serialized by Python's protobuf, and the bytes that the floats are quantized to.

usage: float_features.py     (needs numpy and protobuf)
The messages are tensorflow/core/example/{example,feature}.proto's. Names of features and keys are MediaPipe's (mediapipe/util/sequence/media_sequence.h).
`expected` follows the rule of YouTube-8M's extractor (google/youtube-8m, feature_extractor/extract_tfrecords_main.py, quantize).
"""
import base64
import json
import os

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

random = np.random.RandomState(3)
FIELD = descriptor_pb2.FieldDescriptorProto


def make_file(name, is_packed):
    file = descriptor_pb2.FileDescriptorProto(name=name, package=name.replace(".", "_"), syntax="proto2")

    def message(message_name, *fields):
        made = file.message_type.add(name=message_name)
        for number, (field, label, kind, type_name) in enumerate(fields, 1):
            added = made.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                added.type_name = f".{file.package}.{type_name}"
            if label == FIELD.LABEL_REPEATED and kind in (FIELD.TYPE_FLOAT, FIELD.TYPE_INT64):
                added.options.packed = is_packed
        return made

    def map_of(message_name, field, value):
        made = message(message_name, (field, FIELD.LABEL_REPEATED, FIELD.TYPE_MESSAGE, f"{message_name}.{field.title().replace('_', '')}Entry"))
        entry = made.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_STRING)
        entry.field.add(name="value", number=2, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_MESSAGE, type_name=f".{file.package}.{value}")

    for list_name, kind in ("BytesList", FIELD.TYPE_BYTES), ("FloatList", FIELD.TYPE_FLOAT), ("Int64List", FIELD.TYPE_INT64):
        message(list_name, ("value", FIELD.LABEL_REPEATED, kind, None))
    message("Feature", *((field, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, name) for field, name in
                         (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))))
    message("FeatureList", ("feature", FIELD.LABEL_REPEATED, FIELD.TYPE_MESSAGE, "Feature"))
    map_of("Features", "feature", "Feature")
    map_of("FeatureLists", "feature_list", "FeatureList")
    message("SequenceExample", ("context", FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, "Features"),
            ("feature_lists", FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, "FeatureLists"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.SequenceExample"))


def example(Example, context, rgb, audio, names):
    made = Example()
    for key, value in context.items():
        feature = made.context.feature[key]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    for name, frames in zip(names, (rgb, audio)):
        for number, frame in enumerate(frames):
            feature = made.feature_lists.feature_list[name].feature.add()
            if frame.dtype == np.float32:
                feature.float_list.value.extend(frame.tolist())
                made.feature_lists.feature_list[name.replace("floats", "timestamp")].feature.add().int64_list.value.append(number * 1000000)
            else:
                feature.bytes_list.value.append(frame.tobytes())
    return base64.b64encode(made.SerializeToString(deterministic=True)).decode()


def quantise(values):
    return np.floor((np.clip(values, -2, 2) + 2) * (255.0 / 4) + 0.5).astype(int).tolist()


Packed, Unpacked = make_file("packed.proto", True), make_file("unpacked.proto", False)
MEDIAPIPE = "RGB/feature/floats", "AUDIO/feature/floats"
rgb, audio = random.randn(4, 24).astype("<f4") * 1.2, random.randn(4, 20).astype("<f4")
id_and_labels = {"id": b"AbCd", "labels": [2, 5]}
media = {"clip/data_path": b"/videos/cat.v2.mp4", "clip/label/index": [3], "clip/start/timestamp": [0]}
bits = rgb.astype("<f2"), audio.astype("<f2")
cases = {
    "rgb": quantise(rgb),
    "audio": quantise(audio),
    "rgb16": quantise(bits[0].astype("<f4")),
    "audio16": quantise(bits[1].astype("<f4")),
    "examples": {
        "floats": example(Packed, id_and_labels, rgb, audio, MEDIAPIPE),
        "unpacked floats": example(Unpacked, id_and_labels, rgb, audio, MEDIAPIPE),
        "one frame of audio fewer": example(Packed, id_and_labels, rgb, audio[:3], MEDIAPIPE),
        "two frames of audio fewer": example(Packed, id_and_labels, rgb, audio[:2], MEDIAPIPE),
        "MediaPipe's keys": example(Packed, media, rgb, audio, MEDIAPIPE),
        "of docs/own-features.md's sizes": example(Packed, {"clip/data_path": b"cat.mp4"}, random.randn(5, 64).astype("<f4"), random.randn(5, 32).astype("<f4"), MEDIAPIPE),
        "no id": example(Packed, {"labels": [1]}, rgb, audio, MEDIAPIPE),
        "NaN": example(Packed, id_and_labels, np.where(np.arange(24) == 7, np.float32("nan"), rgb), audio, MEDIAPIPE),
        "float32 as bytes": example(Packed, id_and_labels, rgb.view("u1"), audio.view("u1"), ("rgb", "audio")),
        "float16 as bytes": example(Packed, id_and_labels, bits[0].view("u1"), bits[1].view("u1"), ("rgb", "audio")),
    },
}
# What MediaPipe's extract_yt8m_features writes for a video of two seconds, and the same after the program in docs/mediapipe.md has added its ID and labels.
clip = {"clip/data_path": b"/videos/cat.mp4", "clip/start/timestamp": [0], "clip/end/timestamp": [2000000]}
frames = random.randn(2, 1024).astype("<f4"), random.randn(2, 128).astype("<f4")
cases["examples"]["extracted by MediaPipe"] = example(Packed, clip, *frames, MEDIAPIPE)
cases["examples"]["extracted by MediaPipe, labeled"] = example(Packed, {**clip, "id": b"cat", "labels": [3]}, *frames, MEDIAPIPE)
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/data")
with open(os.path.join(folder, "float_features.json"), "w") as file:
    json.dump(cases, file)
    file.write("\n")
