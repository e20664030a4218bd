"""Checks exported weights with the formats' own libraries: safetensors, numpy, ONNX's checker and ONNX Runtime.

usage: check_readers.py OUT     (OUT is what make-case.js wrote; needs numpy, safetensors, onnx, onnxruntime)
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy

out = sys.argv[1]
expected = safetensors.numpy.load_file(os.path.join(out, "snapshot/weights.safetensors"))
case = np.load(os.path.join(out, "case.npz"))


def check_arrays(found, what):
    assert sorted(found) == sorted(expected), f"{what}: other names"
    for name, array in expected.items():
        assert found[name].dtype == np.float32 and np.array_equal(found[name], array), f"{what}: {name}"
    print(f"{what}: {len(found)} arrays, equal bit for bit")


check_arrays(safetensors.numpy.load_file(os.path.join(out, "W.safetensors")), f"safetensors {safetensors.__version__}")
with np.load(os.path.join(out, "W.npz")) as archive:
    check_arrays(dict(archive), f"numpy {np.__version__}")

path = os.path.join(out, "W.onnx")
onnx.checker.check_model(path, full_check=True)
model = onnx.load(path)
opset = model.opset_import[0].version
print(f"onnx {onnx.__version__}: the checker, with shape inference, finds no fault; opset {opset}, IR {model.ir_version}, {len(model.graph.node)} nodes")
initializers = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
check_arrays({name: initializers[name] for name in expected if name in initializers}, "initializers")

session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
lengths = case["frame_counts"]
ends = np.cumsum(lengths)
batches = [("all five videos", 0, ends[-1], slice(None))]
batches += [(f"video {v} alone", ends[v] - lengths[v], ends[v], slice(v, v + 1)) for v in range(len(lengths))]
for what, begin, end, videos in batches:
    feeds = {"rgb": case["rgb"][begin:end], "audio": case["audio"][begin:end], "frame_counts": lengths[videos]}
    (found,) = session.run(["probabilities"], feeds)
    error = np.abs(found - case["probabilities"][videos]).max()
    assert found.shape == case["probabilities"][videos].shape and error < 1e-5, f"{what}: {error}"
    print(f"onnxruntime {onnxruntime.__version__}, {what}: largest difference {error:.1e}")
