"""Writes gzipped safetensors, reproducibly, for the scripts in this folder."""
import gzip
import json
import struct

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
