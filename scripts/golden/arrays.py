"""Writes test/golden/formats/npy.json and safetensors.json: files written by numpy and the safetensors library, with their contents.

usage: arrays.py     (needs numpy and safetensors)
"""
import base64
import io
import json
import os

import numpy as np
import safetensors.numpy

random = np.random.RandomState(3)
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/formats")
os.makedirs(folder, exist_ok=True)


def text(array):
    """Values in row-major order, as strings that JavaScript's Number and BigInt read exactly."""
    return [repr(value.item()) for value in array.ravel(order="C")]


def write(name, content):
    with open(os.path.join(folder, name), "w") as file:
        json.dump(content, file, indent=0)
        file.write("\n")


def npy(name, array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return {
        "name": name,
        "file": base64.b64encode(file.getvalue()).decode(),
        "dtype": array.dtype.str,
        "shape": array.shape,
        "values": text(array) if array.dtype.names is None else [],
    }


cube = random.randn(2, 3, 4)
write(
    "npy.json",
    [
        npy("float32 column, version 1", random.rand(7, 1).astype("<f4"), (1, 0)),
        npy("float64, version 2", random.randn(3, 2), (2, 0)),
        npy("int32, version 3", random.randint(-(2**31), 2**31, (2, 2), dtype=np.int32), (3, 0)),
        npy("int64", np.array([-(2**63), 2**63 - 1, 0, -1])),
        npy("uint8", np.arange(250, 256, dtype=np.uint8)),
        npy("Fortran order, two axes", np.asfortranarray(random.rand(3, 5).astype("<f4"))),
        npy("Fortran order, three axes", np.asfortranarray(cube)),
        npy("Fortran order, axes of one", np.asfortranarray(random.rand(2, 1, 3).astype("<f4"))),
        npy("Fortran order, int64", np.asfortranarray(np.arange(6).reshape(2, 3))),
        npy("scalar", np.array(1.5)),
        npy("empty", np.zeros((0, 3), "<f4")),
        npy("special values", np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])),
        npy("refused: big-endian", np.arange(3, dtype=">f4")),
        npy("float16", np.arange(3, dtype="<f2")),
        npy("refused: bool", np.array([True])),
        npy("refused: structure", np.zeros(2, [("a", "<f4"), ("b", "<i4")])),
    ],
)

tensors = {
    "f64": random.randn(2, 2),
    "f32": random.randn(3, 1, 2).astype(np.float32),
    "batch_norm_0.w_1": random.randn(5).astype(np.float32),
    "i64": np.array([-(2**63), 2**63 - 1]),
    "u64": np.array([2**64 - 1], np.uint64),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "u32": np.array([2**32 - 1], np.uint32),
    "i16": np.array([-(2**15)], np.int16),
    "u16": np.array([2**16 - 1], np.uint16),
    "i8": np.array([-128, 127, 0], np.int8),
    "u8": np.array([[255, 1]], np.uint8),
    "bool": np.array([True, False, True]),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "名前": np.array([1], np.uint8),
}
metadata = {"format": "np", "note": "naïve \"quotes\" 🎬"}
dtypes = {"float64": "F64", "float32": "F32", "bool": "BOOL"}
write(
    "safetensors.json",
    {
        "file": base64.b64encode(safetensors.numpy.save(tensors, metadata)).decode(),
        "metadata": metadata,
        "tensors": {
            name: {
                "dtype": dtypes.get(array.dtype.name, array.dtype.str[1].upper() + str(8 * array.dtype.itemsize)),
                "shape": array.shape,
                "values": text(array.astype(np.uint8) if array.dtype == bool else array),
            }
            for name, array in tensors.items()
        },
    },
)
