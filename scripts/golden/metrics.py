"""Writes test/golden/metrics/cases.json: random predictions without ties, and what a numpy reference makes of them.

usage: metrics.py REFERENCE.py     (a module with metrics(pred, lab) and perr(pred, lab) after google/youtube-8m's eval_util.py; needs numpy)
"""
import base64
import importlib.util
import json
import os
import sys

import numpy as np

spec = importlib.util.spec_from_file_location("reference", sys.argv[1])
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
random = np.random.RandomState(7)


def case(name, videos, classes, labels_a_video, skill, lowest_is_zero=False):
    labels = np.zeros((videos, classes))  # float64, or numpy takes its means in float32
    for row in labels:
        row[random.permutation(classes)[: labels_a_video()]] = 1
    rank = np.argsort(np.argsort((random.rand(videos, classes) + skill * labels).ravel()))
    predictions = ((rank + (0 if lowest_is_zero else 0.5)) / rank.size).astype(np.float32).reshape(videos, classes)
    assert len(np.unique(predictions)) == predictions.size
    expected = reference.metrics(predictions, labels)
    expected["perr"] = reference.perr(predictions, labels)
    expected["aps"] = expected["aps"].tolist()
    return {
        "name": name,
        "classes": classes,
        "predictions": base64.b64encode(predictions.tobytes()).decode(),
        "labels": [np.flatnonzero(row).tolist() for row in labels],
        "expected": expected,
    }


cases = [
    case("more classes than 20", 50, 60, lambda: random.randint(1, 5), 0.5),
    case("fewer classes than 20", 40, 8, lambda: random.randint(1, 3), 0.3),
    case("more labels than 20", 12, 64, lambda: random.randint(21, 64), 0.2),
    case("some videos without labels", 30, 25, lambda: max(0, random.randint(-2, 4)), 0.4),
    case("one class, and a prediction of exactly 0", 6, 1, lambda: 1, 0.0, lowest_is_zero=True),
]
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/metrics")
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "cases.json"), "w") as file:
    json.dump(cases, file)
    file.write("\n")
