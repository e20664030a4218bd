"""Full-ranking mAP of predictions: scikit-learn's average precision of each class with positives, over all videos, and its mean.
usage: full_ranking.py PREDICTIONS.pkl VIDEOS.pkl...
PREDICTIONS.pkl: as `nextvlad infer --infer-topk CLASSES` writes it. VIDEOS.pkl: labeled videos, as `nextvlad convert --to pkl` writes them.
Prints one JSON object: {"map": 0.26, "classes": 527, "videos": 10187}."""
import json
import pickle
import sys

import numpy as np
from sklearn.metrics import average_precision_score


def load(path, **how):
    with open(path, "rb") as file:
        return pickle.load(file, **how)


def main():
    predictions = load(sys.argv[1])
    # PaddleVideo reads its shards like this: they have Python 2's pickle format, so strings are bytes.
    videos = [video for path in sys.argv[2:] for video in load(path, encoding="bytes")]
    labels = {video[b"video"].decode(): video[b"label"] for video in videos}
    classes = 1 + max(max(classes) for _, _, classes in predictions)
    if len(predictions) != len(labels):
        sys.exit(f"{len(predictions)} predictions, but {len(labels)} labeled videos")
    scores = np.zeros((len(predictions), classes), np.float64)
    truth = np.zeros((len(predictions), classes), bool)
    for row, (video, probabilities, order) in enumerate(predictions):
        if len(order) != classes:
            sys.exit(f"{video}: {len(order)} of {classes} classes; run infer with --infer-topk {classes}")
        scores[row, order] = probabilities
        truth[row, labels[video]] = True
    positive = np.flatnonzero(truth.any(axis=0))
    precisions = [average_precision_score(truth[:, c], scores[:, c]) for c in positive]
    print(json.dumps({"map": float(np.mean(precisions)), "classes": len(positive), "videos": len(predictions)}))


if __name__ == "__main__":
    main()
