"""Copies Paddle's weights and its checkpoint after three steps of Adam, and converts the values that it computed with them for the tests.

usage: convert_resume.py GOLDEN/resume test/golden/resume     (needs numpy)
Keeps only the vectors that convert_golden.py's tests do not cover: predictions, and the parameters after two more steps.
"""
import os
import shutil
import sys

import numpy as np
from safetensors_writer import write_safetensors

KEPT = ("rgb", "audio", "lens", "labels", "eval_predictions", "eval_predictions_drop0.3", "after3_eval_predictions")
FILES = ("NEXTVLAD.pdparams.gz", "checkpoint3.pdparams.gz", "checkpoint3.pdopt.gz", "meta.json")

source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
for name in FILES:
    shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
vectors = np.load(os.path.join(source, "golden.npz"))
kept = {n: vectors[n] for n in vectors.files if n in KEPT or n.startswith("after5/")}
write_safetensors(os.path.join(target, "vectors.safetensors.gz"), kept)
