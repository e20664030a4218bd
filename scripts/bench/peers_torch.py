"""NeXtVLAD in PyTorch, for peers.py."""
import os

import torch
from torch import nn
from torch.nn import functional as F

VERSION = f"torch {torch.__version__}"


def matrix(rows, columns):
    return nn.Parameter(torch.randn(rows, columns) * (2 / rows) ** 0.5)


def zeros(width):
    return nn.Parameter(torch.zeros(width))


class Aggregator(nn.Module):
    def __init__(self, features, options):
        super().__init__()
        self.groups, self.clusters = options.groups, options.clusters
        expanded = options.expansion * features
        self.size = expanded // self.groups
        self.expand, self.expand_bias = matrix(features, expanded), zeros(expanded)
        self.attend, self.attend_bias = matrix(expanded, self.groups), zeros(self.groups)
        self.assign = matrix(expanded, self.groups * self.clusters)
        self.centers = matrix(self.size, self.clusters)
        self.cluster_norm = nn.BatchNorm1d(self.groups * self.clusters)
        self.descriptor_norm = nn.BatchNorm1d(self.size * self.clusters)

    def forward(self, x, mask):
        """Maps features [B, T, F] and a mask [B, T] to descriptors [B, P K]."""
        videos, frames, features = x.shape
        x = torch.addmm(self.expand_bias, x.reshape(videos * frames, features), self.expand)
        attention = torch.sigmoid(torch.addmm(self.attend_bias, x, self.attend)).view(videos, frames, self.groups) * mask[..., None]
        logits = self.cluster_norm(x @ self.assign).view(videos, frames * self.groups, self.clusters)
        a = torch.softmax(logits, -1) * attention.view(videos, frames * self.groups, 1)
        sums = torch.bmm(x.view(videos, frames * self.groups, self.size).transpose(1, 2), a)
        descriptors = F.normalize(sums - a.sum(1, keepdim=True) * self.centers, dim=1)
        return self.descriptor_norm(descriptors.reshape(videos, -1))


class Network(nn.Module):
    def __init__(self, options, scale, offset):
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.widths = [features for features in (options.rgb, options.audio) if features > 0]
        self.aggregators = nn.ModuleList(Aggregator(features, options) for features in self.widths)
        descriptors = sum(each.size * each.clusters for each in self.aggregators)
        self.hidden, self.hidden_norm = matrix(descriptors, options.hidden), nn.BatchNorm1d(options.hidden)
        self.reduce, self.restore = matrix(options.hidden, options.bottleneck), matrix(options.bottleneck, options.hidden)
        self.gating_norm = nn.BatchNorm1d(options.bottleneck)
        self.classify, self.classify_bias = matrix(options.hidden, options.classes), zeros(options.classes)

    def forward(self, features, mask):
        x = features.float() * self.scale + self.offset
        parts = torch.split(x, self.widths, -1)
        descriptors = torch.cat([aggregate(part, mask) for aggregate, part in zip(self.aggregators, parts)], 1)
        h = self.hidden_norm(F.dropout(descriptors, 0.5, self.training) @ self.hidden)
        h = h * torch.sigmoid(torch.relu(self.gating_norm(h @ self.reduce)) @ self.restore)
        return torch.addmm(self.classify_bias, h, self.classify)


def check_level(framework):
    """Stops if PyTorch does not keep to the processor level that the environment sets."""
    level, compiler = os.environ.get("ATEN_CPU_CAPABILITY"), os.environ.get("TORCHINDUCTOR_CPP_MARCH")
    if level is not None and torch.backends.cpu.get_cpu_capability().lower() != level:
        raise SystemExit(f"PyTorch computes with {torch.backends.cpu.get_cpu_capability()} although ATEN_CPU_CAPABILITY is {level}")
    if framework == "torch-compile" and compiler is not None:
        import torch._inductor.config as inductor

        if getattr(inductor.cpp, "march", None) != compiler:
            raise SystemExit(f"{VERSION} ignores TORCHINDUCTOR_CPP_MARCH: use a newer one")


def make_step(options, batch):
    """Returns a function that takes a step, and one that reads its result."""
    check_level(options.framework)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    device = "cuda" if options.device == "gpu" else "cpu"
    features, mask, labels, scale, offset = map(torch.from_numpy, batch)
    if options.device == "gpu":
        features = features.pin_memory()
    mask, labels = mask.to(device), labels.to(device)
    network = Network(options, scale, offset).to(device).train(options.mode == "train")
    run = torch.compile(network) if options.framework == "torch-compile" else network
    decayed = {"classify", "classify_bias"}
    groups = [
        {"params": [each for name, each in network.named_parameters() if name not in decayed]},
        {"params": [network.classify, network.classify_bias], "weight_decay": 1e-5},
    ]
    adam = torch.optim.Adam(groups, lr=2e-4, fused=True)

    def logits():
        return run(features.to(device, non_blocking=True), mask)

    def train():
        adam.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(logits(), labels, reduction="none").sum(1).mean()
        loss.backward()
        adam.step()
        return loss

    @torch.inference_mode()
    def infer():
        return torch.sigmoid(logits()).cpu()

    return train if options.mode == "train" else infer, lambda result: result.flatten()[0].item()
