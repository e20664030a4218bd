"""Writes test/golden/features/npz.json: .npz files written by numpy, with their contents.

usage: features.py     (needs numpy)
"""
import base64
import io
import json
import os

import numpy as np

random = np.random.RandomState(5)
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/golden/features")
os.makedirs(folder, exist_ok=True)
rgb = np.rint(random.randn(4, 6) * 40).astype("<f4") / 32
audio = random.randint(0, 256, (4, 3)).astype("u1")


def npz(name, save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    content = {**{f"arr_{i}": array for i, array in enumerate(arrays)}, **named}
    return {
        "name": name,
        "file": base64.b64encode(file.getvalue()).decode(),
        "arrays": {key: {"dtype": array.dtype.str, "shape": array.shape, "values": array.ravel().tolist()} for key, array in content.items()},
    }


with open(os.path.join(folder, "npz.json"), "w") as file:
    json.dump(
        [
            npz("stored", np.savez, rgb=rgb, audio=audio),
            npz("compressed", np.savez_compressed, rgb=rgb, audio=audio),
            npz("without names", np.savez_compressed, np.asfortranarray(rgb)),
        ],
        file,
        indent=0,
    )
    file.write("\n")
