"""Writes test/golden/metrics/cases.json (random predictions without ties) and many.json (2,000 videos, with and without ties), with the metrics that numpy computes.

usage: metrics.py REFERENCE.py     (a module with metrics(pred, lab) and perr(pred, lab) as in google/youtube-8m's eval_util.py; needs numpy)
The reference breaks ties arbitrarily. The cases with ties use the definitions below, which are checked against the reference on the cases without ties.
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
    labels = np.zeros((videos, classes))  # float64: numpy computes means of float32 in float32
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


def average_precision(order, hits, positives):
    hits = hits[order]
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1.0)).sum() / positives) if positives > 0 else 0.0


def metrics_with_ties(predictions, labels, topk=20):
    """Ranks equal predictions by the lower class, then by the earlier video."""
    videos, classes = predictions.shape
    ranked = np.argsort(-predictions, axis=1, kind="stable")
    counts = labels.sum(1).astype(int)
    perr = [(labels[v, r[:n]] * (predictions[v, r[:n]] > 0)).sum() / n if n > 0 else 0 for v, (r, n) in enumerate(zip(ranked, counts))]
    top = ranked[:, :topk]
    video = np.repeat(np.arange(videos), top.shape[1])
    top = top.ravel()
    scores, hits = predictions[video, top], labels[video, top] > 0
    order = np.lexsort((video, top, -scores))
    aps = [average_precision(order[top[order] == c], hits, labels[:, c].sum()) for c in range(classes)]
    return {
        "hit_at_one": float(labels[np.arange(videos), ranked[:, 0]].mean()),
        "perr": float(np.mean(perr)),
        "gap": average_precision(order, hits, labels.sum()),
        "map": float(np.mean(aps)),
        "aps": aps,
    }


def scattered(count, levels):
    """`count` numbers in 0..1 that any language can reproduce: a bijection of 24 bits, reduced to its upper bits if there are fewer levels."""
    x = np.arange(count, dtype=np.uint64)
    mask = np.uint64(2**24 - 1)
    for multiplier in (0x9E3779B1, 0x85EBCA6B):
        x = (x * np.uint64(multiplier)) & mask
        x ^= x >> np.uint64(12)
    return (x // np.uint64(2**24 // levels)).astype(np.float32) / np.float32(levels)


def many(name, levels, videos=2000, classes=3862):
    predictions = scattered(videos * classes, levels).reshape(videos, classes)
    labels = np.zeros((videos, classes))
    for row, scores in zip(labels, predictions):
        row[random.permutation(classes)[: random.randint(0, 4)]] = 1
        row[random.choice(np.argsort(-scores, kind="stable")[:60], random.randint(1, 4))] = 1
    labels[7, np.argsort(-predictions[7], kind="stable")[5:45]] = 1  # more than 20
    expected = metrics_with_ties(predictions, labels)
    if levels == 2**24:
        assert len(np.unique(predictions)) == predictions.size
        reference_expected = reference.metrics(predictions, labels)
        for key in ("hit_at_one", "perr", "gap", "map"):
            found = reference.perr(predictions, labels) if key == "perr" else reference_expected[key]
            assert abs(found - expected[key]) < 1e-12, key
        assert np.abs(np.array(expected["aps"]) - reference_expected["aps"]).max() < 1e-12
    del expected["aps"]
    return {"name": name, "classes": classes, "levels": levels, "labels": [np.flatnonzero(row).tolist() for row in labels], "expected": expected}


def write(name, cases):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/metrics")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as file:
        json.dump(cases, file)
        file.write("\n")


write("cases.json", cases)
write(
    "many.json",
    [
        many("no ties", 2**24),
        many("ties within every video", 2**10),
        many("only ties", 4),
    ],
)
