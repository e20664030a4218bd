"""Copies small files that Paddle wrote, one of each of its formats, and converts their contents to JSON, which can be read without numpy.

usage: convert_formats.py GOLDEN/formats test/golden/formats/paddle   (needs numpy)
"""
import base64
import json
import pathlib
import shutil
import sys

import numpy

source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir(parents=True, exist_ok=True)
for path in sorted(source.rglob("*")):
    if path.is_file() and path.suffix != ".npz":
        copy = target / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
expected = numpy.load(source / "expected.npz")
arrays = {
    name: {
        "dtype": expected[name].dtype.str[1:],
        "shape": expected[name].shape,
        "row_major": base64.b64encode(numpy.ascontiguousarray(expected[name]).tobytes()).decode(),
    }
    for name in expected.files
}
(target / "expected.json").write_text(json.dumps(arrays, indent=1) + "\n")
