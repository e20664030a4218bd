"""Copies the golden shards (TFRecords and pickles) and converts their expected values to JSON, which can be read without numpy.

usage: python3 scripts/golden/convert_data.py GOLDEN/data test/golden/data   (needs numpy)
"""

import base64
import json
import pathlib
import shutil
import sys

import numpy

SHARDS = ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib"]
PICKLES = ["feat_p2_bytes.pkl", "feat_p4_str.pkl", "feat_py2_style.pkl", "feat_fortran_short.pkl"]


def main(source: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for shard in SHARDS + PICKLES:
        shutil.copyfile(source / shard, target / shard)
    for name in ["expected", "expected_fortran_short"]:
        write_expected(source / f"{name}.npz", target / f"{name}.json")


def write_expected(source: pathlib.Path, target: pathlib.Path) -> None:
    expected = numpy.load(source)
    videos = []
    for i in range(sum(name.startswith("video_") for name in expected.files)):
        videos.append(
            {
                "id": expected[f"video_{i}"].item().decode(),
                "frames": int(expected[f"nframes_{i}"]),
                "labels": sorted(int(label) for label in expected[f"label_{i}"]),
                "rgb": base64.b64encode(expected[f"feature_{i}"].tobytes()).decode(),
                "audio": base64.b64encode(expected[f"audio_{i}"].tobytes()).decode(),
            }
        )
    target.write_text(json.dumps(videos, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
