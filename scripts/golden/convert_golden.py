"""Converts a golden case that Paddle wrote (.npz and a directory of variables in a .tar.gz) into gzipped safetensors for the tests.

usage: convert_golden.py CASE_DIR TARGET_DIR     (needs numpy; CASE_DIR holds golden.npz, meta.json, nextvlad_youtube8m.tar.gz)
Writes weights.safetensors.gz, vectors.safetensors.gz and meta.json."""
import gzip
import json
import os
import shutil
import struct
import sys
import tarfile

import numpy as np

NAMES = {"float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "uint8": "U8"}


def write_safetensors(path, tensors):
    header, offset, data = {}, 0, []
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": NAMES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as raw_file, gzip.GzipFile("", "wb", 9, raw_file, mtime=0) as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def read_variable(raw, shape):
    """A Paddle variable file: a header, then the data up to the end (FORMATS: float32 or, for the step counter, int64)."""
    count = int(np.prod(shape))
    return np.frombuffer(raw[-4 * count:], "<f4").reshape(shape)


source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
meta = json.load(open(os.path.join(source, "meta.json")))
with tarfile.open(os.path.join(source, "nextvlad_youtube8m.tar.gz")) as tar:
    files = {os.path.basename(m.name): tar.extractfile(m).read() for m in tar if m.isfile()}
write_safetensors(os.path.join(target, "weights.safetensors.gz"), {n: read_variable(files[n], meta["shapes"][n]) for n in meta["param_names"]})
vectors = np.load(os.path.join(source, "golden.npz"))
write_safetensors(os.path.join(target, "vectors.safetensors.gz"), {n: vectors[n] for n in vectors.files})
shutil.copy(os.path.join(source, "meta.json"), os.path.join(target, "meta.json"))
