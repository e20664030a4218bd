"""Measures NeXtVLAD in TensorFlow or PyTorch, as their users run it: every video padded to the same number of frames, with a mask; Adam in training.
usage: peers.py --framework tf|tf-xla|torch|torch-compile --mode train|infer --device cpu|gpu --batch B --frames T --steps N --threads N
    --rgb F --audio F --expansion E --groups G --clusters K --hidden H --bottleneck R --classes C [--tf32]
Times steps on one batch, after two warm-up steps. On a GPU, 10 steps count as one, and each sends the batch from pinned memory. Prints a JSON object: name,
mode, version, rate (videos per second at the median), peak_gib (maximum resident memory of the process), seconds (of each step)."""
import argparse
import importlib
import json
import os
import resource
import statistics
import time

WARM_UP = 2
GPU_STEPS = 10
MODULES = {"tf": "peers_tensorflow", "tf-xla": "peers_tensorflow", "torch": "peers_torch", "torch-compile": "peers_torch"}
NUMBERS = ("batch", "frames", "steps", "threads", "rgb", "audio", "expansion", "groups", "clusters", "hidden", "bottleneck", "classes")


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--framework", choices=MODULES, required=True)
    parser.add_argument("--mode", choices=("train", "infer"), required=True)
    parser.add_argument("--device", choices=("cpu", "gpu"), required=True)
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--tf32", action="store_true")
    return parser.parse_args()


def set_environment(options):
    """Sets what the frameworks read when they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def random_batch(options):
    """Returns features [B, T, F] uint8, a mask [B, T] float32 and labels [B, C] float32, and the scale and offset [F] float32 that dequantize features."""
    import numpy as np

    random = np.random.default_rng(0)
    features = random.integers(0, 256, (options.batch, options.frames, options.rgb + options.audio), dtype=np.uint8)
    mask = np.ones((options.batch, options.frames), np.float32)
    labels = (random.random((options.batch, options.classes)) < 3 / options.classes).astype(np.float32)
    scale = np.full(options.rgb + options.audio, 4 / 255, np.float32)
    offset = np.array([-2] * options.rgb + [-2 + 4 / 512] * options.audio, np.float32)
    return features, mask, labels, scale, offset


def time_steps(step, read, options):
    """Returns the seconds of each step. A timing ends when the result has been read, which waits for the device."""
    repeats = GPU_STEPS if options.device == "gpu" else 1
    seconds = []
    for _ in range(WARM_UP + options.steps):
        start = time.perf_counter()
        for _ in range(repeats):
            result = step()
        read(result)
        seconds.append((time.perf_counter() - start) / repeats)
    return seconds[WARM_UP:]


if __name__ == "__main__":
    options = read_options()
    set_environment(options)
    framework = importlib.import_module(MODULES[options.framework])
    seconds = time_steps(*framework.make_step(options, random_batch(options)), options)
    result = {
        "name": options.framework,
        "mode": options.mode,
        "version": framework.VERSION,
        "rate": options.batch / statistics.median(seconds),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seconds": seconds,
    }
    print(json.dumps(result))
