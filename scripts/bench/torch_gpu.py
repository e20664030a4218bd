"""NeXtVLAD at full size in PyTorch on a GPU, as its users run it: every video padded to the same number of frames, with a mask.
usage: torch_gpu.py --framework torch|torch-compile --mode train|infer --batch B --frames T --steps N [--tf32]
Each step sends its batch from pinned memory. Prints a RESULT line as the CPU's peers do."""
import argparse
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F

CLASSES, CLUSTERS, HIDDEN, GROUPS, EXPANSION, REDUCTION = 3862, 128, 2048, 8, 2, 8
WIDTHS = (1024, 128)


def matrix(rows, columns):
    return nn.Parameter(torch.randn(rows, columns) * (2 / rows) ** 0.5)


class Aggregator(nn.Module):
    def __init__(self, width):
        super().__init__()
        expanded = EXPANSION * width
        self.part = expanded // GROUPS
        self.expand = nn.Linear(width, expanded)
        self.attend = nn.Linear(expanded, GROUPS)
        self.clusters = matrix(expanded, GROUPS * CLUSTERS)
        self.centres = matrix(self.part, CLUSTERS)
        self.cluster_norm = nn.BatchNorm1d(GROUPS * CLUSTERS)
        self.descriptor_norm = nn.BatchNorm1d(self.part * CLUSTERS)

    def forward(self, x, mask):
        videos, frames, _ = x.shape
        x = self.expand(x.reshape(videos * frames, -1))
        gate = torch.sigmoid(self.attend(x)).view(videos, frames * GROUPS, 1) * mask.repeat_interleave(GROUPS, 1)[..., None]
        logits = self.cluster_norm(x @ self.clusters).view(videos, frames * GROUPS, CLUSTERS)
        share = torch.softmax(logits, -1) * gate
        sums = torch.bmm(x.view(videos, frames * GROUPS, self.part).transpose(1, 2), share)
        sums = sums - share.sum(1, keepdim=True) * self.centres
        return self.descriptor_norm(F.normalize(sums, dim=1).reshape(videos, -1))


class NeXtVLAD(nn.Module):
    def __init__(self):
        super().__init__()
        self.video, self.audio = (Aggregator(width) for width in WIDTHS)
        descriptor = CLUSTERS * (self.video.part + self.audio.part)
        self.hidden = matrix(descriptor, HIDDEN)
        self.hidden_norm = nn.BatchNorm1d(HIDDEN)
        self.reduce, self.restore = matrix(HIDDEN, HIDDEN // REDUCTION), matrix(HIDDEN // REDUCTION, HIDDEN)
        self.gate_norm = nn.BatchNorm1d(HIDDEN // REDUCTION)
        self.classify = nn.Linear(HIDDEN, CLASSES)

    def forward(self, frames, mask):
        x = frames.float() * (4 / 255) - 2
        parts = [self.video(x[..., : WIDTHS[0]], mask), self.audio(x[..., WIDTHS[0] :], mask)]
        h = self.hidden_norm(F.dropout(torch.cat(parts, 1), 0.5, self.training) @ self.hidden)
        h = h * torch.sigmoid(torch.relu(self.gate_norm(h @ self.reduce)) @ self.restore)
        return self.classify(h)


def make_step(net, mode, batch, frames):
    run = torch.compile(net) if options.framework == "torch-compile" else net
    waiting = torch.randint(0, 256, (batch, frames, sum(WIDTHS)), dtype=torch.uint8).pin_memory()
    mask = torch.ones(batch, frames, device="cuda")
    labels = (torch.rand(batch, CLASSES, device="cuda") < 3 / CLASSES).float()
    adam = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)

    def train():
        adam.zero_grad(set_to_none=True)
        logits = run(waiting.cuda(non_blocking=True), mask)
        F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1).mean().backward()
        adam.step()

    @torch.inference_mode()
    def infer():
        return torch.sigmoid(run(waiting.cuda(non_blocking=True), mask)).cpu()

    return train if mode == "train" else infer


def measure(step, steps, samples=5):
    for _ in range(3):
        step()
    seconds = []
    for _ in range(samples):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / steps)
    return sorted(seconds)[samples // 2]


parser = argparse.ArgumentParser()
parser.add_argument("--framework", choices=("torch", "torch-compile"), required=True)
parser.add_argument("--mode", choices=("train", "infer"), required=True)
for name in ("batch", "frames", "steps"):
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--threads", type=int)
parser.add_argument("--tf32", action="store_true")
options = parser.parse_args()
torch.backends.cuda.matmul.allow_tf32 = options.tf32
network = NeXtVLAD().cuda().train(options.mode == "train")
median = measure(make_step(network, options.mode, options.batch, options.frames), options.steps)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(
    f"RESULT torch {torch.__version__} {options.framework} {options.mode} B={options.batch} T={options.frames} tf32={options.tf32} on {torch.cuda.get_device_name()}"
    f"  {options.batch / median:.3f} videos/s  step {median:.4f}s  peakRSS {peak:.2f} GB"
)
