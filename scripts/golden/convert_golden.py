"""Converts a golden case that Paddle wrote (.npz and a directory of variables in a .tar.gz) into gzipped safetensors for the tests.

usage: convert_golden.py CASE_DIR TARGET_DIR     (needs numpy; CASE_DIR contains golden.npz, meta.json, nextvlad_youtube8m.tar.gz)
Writes weights.safetensors.gz, vectors.safetensors.gz and meta.json."""
import json
import os
import shutil
import sys
import tarfile

import numpy as np
from safetensors_writer import write_safetensors

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
