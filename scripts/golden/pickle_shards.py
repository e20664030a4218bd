"""Writes test/golden/data/pickle_shards.json: shards in the forms that PaddleVideo's readers accept, pickled by Python 3 and numpy.

usage: pickle_shards.py     (needs numpy)
Every file contains the same videos; `expected` is what PaddleVideo's reader returns: features as numbers, truncated at nframes, and a set of labels.
"""
import base64
import json
import os
import pickle

import numpy as np

random = np.random.RandomState(7)
videos = [(name, random.randint(90, 256, (frames, 6)), random.randint(90, 256, (frames, 3)), labels)
          for name, frames, labels in [("first", 24, [1, 4]), ("second", 3, [9])]]


def dicts(dtype="u1", label=list, order="C", key=str, nframes=int, repeat=1):
    made = []
    for name, rgb, audio, labels in videos:
        rgb, audio = np.tile(rgb, (repeat, 1)), np.tile(audio, (repeat, 1))
        record = {"video": name.encode(), "feature": np.asarray(rgb, dtype, order), "audio": np.asarray(audio, dtype, order), "nframes": nframes(len(rgb))}
        if label is not None:
            record["label"] = label(labels)
        made.append({key(name): value for name, value in record.items()})
    return made


files = {}
for dtype in "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8":
    files[f"features as {dtype}"] = pickle.dumps(dicts(dtype), 2)
files["features as i8, Fortran order"] = pickle.dumps(dicts("i8", order="F"), 4)
for dtype in "u1", "i4", "i8", "f4":
    files[f"labels as an array {dtype}"] = pickle.dumps(dicts(label=lambda labels, dtype=dtype: np.array(labels, dtype)), 2)
files["labels as numpy scalars"] = pickle.dumps(dicts(label=lambda labels: [np.int64(label) for label in labels]), 2)
files["labels as a tuple"] = pickle.dumps(dicts(label=tuple), 2)
files["no labels"] = pickle.dumps(dicts(label=None), 2)
files["label None"] = pickle.dumps(dicts(label=lambda _: None), 2)
for protocol in range(6):
    files[f"one dict, keys of bytes, protocol {protocol}"] = pickle.dumps(dicts(key=str.encode, nframes=np.int32)[0], protocol)
# Most bytes are above 127. Protocol 0 stores each in one byte, but UTF-8 takes two, so the text as UTF-8 is larger than the whole file.
files["12 times the frames, protocol 0"] = pickle.dumps(dicts(repeat=12), 0)
for protocol in 0, 2:
    files[f"one dict, Fortran order, protocol {protocol}"] = pickle.dumps(dicts(order="F")[0], protocol)

cases = {
    "numpy": np.__version__,
    "expected": [{"id": name, "rgb": rgb.tolist(), "audio": audio.tolist(), "labels": labels} for name, rgb, audio, labels in videos],
    "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
}
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/data")
with open(os.path.join(folder, "pickle_shards.json"), "w") as file:
    json.dump(cases, file)
    file.write("\n")
