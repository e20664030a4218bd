"""Writes test/golden/metrics/full_ranking.json: random predictions, with and without ties, and the average precision and area under the ROC curve that scikit-learn
computes of each class from the ranking of all videos.

usage: full_ranking.py     (needs numpy, scipy and scikit-learn)
"""
import base64
import json
import os

import numpy as np
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

random = np.random.RandomState(11)


def case(name, levels, videos=150, classes=12):
    """Class 0 has no positives, class 1 no negatives, class 2 one positive. `levels`: number of different predictions; None for no ties."""
    labels = random.rand(videos, classes) < np.linspace(0.05, 0.6, classes)
    labels[:, 0] = False
    labels[:, 1] = True
    labels[:, 2] = np.arange(videos) == 40
    predictions = 1 / (1 + np.exp(-random.randn(videos, classes) * 2 - labels))
    if levels is not None:
        predictions = np.floor(predictions * levels) / levels
    predictions = predictions.astype(np.float32)
    ranked = [c for c in range(classes) if labels[:, c].any()]
    mixed = [c for c in ranked if not labels[:, c].all()]
    aps = {c: average_precision_score(labels[:, c], predictions[:, c]) for c in ranked}
    aucs = {c: roc_auc_score(labels[:, c], predictions[:, c]) for c in mixed}
    mauc = float(np.mean(list(aucs.values())))
    return {
        "name": name,
        "classes": classes,
        "predictions": base64.b64encode(predictions.tobytes()).decode(),
        "labels": [np.flatnonzero(row).tolist() for row in labels],
        "expected": {
            "map": float(np.mean(list(aps.values()))),
            "mauc": mauc,
            "d_prime": float(np.sqrt(2) * norm.ppf(mauc)),
            "classes": len(ranked),
            "aps": [aps.get(c) for c in range(classes)],
            "aucs": [aucs.get(c) for c in range(classes)],
        },
    }


cases = [case("no ties", None), case("ties", 16), case("mostly ties", 3), case("only ties", 1)]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/metrics/full_ranking.json"), "w") as file:
    json.dump(cases, file)
    file.write("\n")
