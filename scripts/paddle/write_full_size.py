"""Writes a full-size NEXTVLAD.pdparams (89 million values, the published recipe's sizes) as Paddle itself saves it, to time its loading with.

usage: write_full_size.py TARGET_DIR [PROTOCOL ...]     (needs paddlepaddle 2.6.2 and numpy < 2; protocols 2 and 4 if none is given)
    python3 -m venv paddle && paddle/bin/pip install paddlepaddle==2.6.2 "numpy<2" setuptools
"""
import os
import sys

import paddle

FEATURES = {"video": 1024, "audio": 128}
CLUSTERS, HIDDEN, GROUPS, EXPANSION, REDUCTION, CLASSES = 128, 2048, 8, 2, 8, 3862


def norm(index, size):
    return {f"batch_norm_{index}.{name}": [size] for name in ("w_0", "b_0", "w_1", "w_2")}


def shapes():
    table, descriptor = {"eigen_param": [1024]}, 0
    for index, (name, features) in enumerate(FEATURES.items()):
        expanded = EXPANSION * features
        group = expanded // GROUPS
        descriptor += CLUSTERS * group
        table |= {
            f"{name}_fc_expansion_w": [features, expanded],
            f"{name}_fc_expansion_b": [expanded],
            f"{name}_fc_group_attention_w": [expanded, GROUPS],
            f"{name}_fc_group_attention_b": [GROUPS],
            f"{name}_cluster_weights": [expanded, GROUPS * CLUSTERS],
            f"{name}_cluster_weights2": [CLUSTERS, group],
            **norm(2 * index, GROUPS * CLUSTERS),
            **norm(2 * index + 1, CLUSTERS * group),
        }
    gate = HIDDEN // REDUCTION
    return table | {
        "hidden1_fc_weights": [descriptor, HIDDEN],
        "gating_fc1_weights": [HIDDEN, gate],
        "gating_fc2_weights": [gate, HIDDEN],
        "logits_clf_weights": [HIDDEN, CLASSES],
        "logits_clf_bias": [CLASSES],
        **norm(4, HIDDEN),
        **norm(5, gate),
    }


target = sys.argv[1]
os.makedirs(target, exist_ok=True)
paddle.enable_static()
program, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(program, startup):
    for name, shape in shapes().items():
        # A moving variance must be positive, otherwise all predictions are NaN.
        ones = name.endswith(".w_2") or name == "eigen_param"
        initializer = paddle.nn.initializer.Constant(1.0) if ones else paddle.nn.initializer.Normal(0.0, 0.02)
        paddle.static.create_parameter(shape, "float32", name=name, default_initializer=initializer)
paddle.static.Executor(paddle.CPUPlace()).run(startup)
for protocol in map(int, sys.argv[2:] or ["2", "4"]):
    path = os.path.join(target, f"protocol{protocol}", "NEXTVLAD")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    paddle.static.save(program, path, protocol=protocol)
    print(f"{path}.pdparams", os.path.getsize(f"{path}.pdparams"))
