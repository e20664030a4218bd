"""Writes test/golden/formats/pickles.json: pickles of numpy arrays and scalars in every protocol, with their contents.

usage: pickles.py     (needs numpy)
`Python2Pickler` emits Python 2's opcodes: Python 3 cannot write its raw str.
"""
import base64
import io
import json
import os
import pickle
import struct

import numpy as np

random = np.random.RandomState(5)
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/formats")

arrays = {
    "matrix": random.randn(3, 4).astype("<f4"),
    "fortran": np.asfortranarray(random.randn(3, 4).astype("<f4")),
    "three sides": np.asfortranarray(random.randint(0, 256, (2, 3, 4)).astype("u1")),
    "bytes of every value": np.arange(256, dtype="u1"),
    "doubles": random.randn(2, 1, 3),
    "int64": np.array([-(2**63), 2**63 - 1, 0]),
    "halves": np.array([0.5, -2], "<f2"),
    "booleans": np.array([True, False]),
    "none": np.zeros((0, 4), "<f4"),
    "no sides": np.array(2.5, "<f4"),
    "strided": np.arange(20, dtype="<i4").reshape(4, 5)[::2, ::2],
}
scalars = {
    "i8": np.int64(7),
    "i4": np.int32(-3),
    "u1": np.uint8(200),
    "f4": np.float32(0.25),
    "f8": np.float64(-1.5),
    "b1": np.bool_(True),
    "large": np.int64(2**60 + 1),
}


class Python2Pickler(pickle._Pickler):
    """Writes bytes as SHORT_BINSTRING or BINSTRING, as Python 2 writes str, and text likewise."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        if len(value) < 256:
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(value)) + value)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    def save_text(self, value):
        self.save_bytes(value.encode("latin1"))

    dispatch[bytes] = save_bytes
    dispatch[str] = save_text


def python2(value):
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(value)
    return file.getvalue()


def describe(array):
    return {
        "dtype": array.dtype.str[1:],
        "shape": array.shape,
        "row_major": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
    }


writers = {f"protocol {p}": (lambda value, p=p: pickle.dumps(value, p)) for p in range(6)}
writers["Python 2's opcodes"] = python2
cases = {
    "arrays": {name: describe(array) for name, array in arrays.items()},
    "scalars": {name: str(scalar.item()) for name, scalar in scalars.items()},
    "files": {
        f"{name}, numpy {np.__version__}": base64.b64encode(write({"arrays": arrays, "scalars": scalars})).decode()
        for name, write in writers.items()
    },
}
path = os.path.join(folder, "pickles.json")
if os.path.exists(path):
    # numpy 1 and numpy 2 have different module names. Run this script with each: the files of both are kept.
    with open(path) as file:
        cases["files"] = {**json.load(file)["files"], **cases["files"]}
with open(path, "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
