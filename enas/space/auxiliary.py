"""The auxiliary head of stacked cells, in final training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enas import kernels
from enas.space.layers import Norms, linear
from enas.space.rows import PointwiseTable, he_normal
from enas.space.stacking import halve

AUXILIARY_CHANNELS = (128, 768)
"""Widths of the auxiliary head (authors' micro_child.py)."""


class AuxiliaryHead(nn.Module):
    """A second classifier on an earlier cell, for training only: ReLU, average pool 5 stride 3, 1x1 to 128 - BN - ReLU,
    full-size convolution to 768 - BN - ReLU, classifier (authors' micro_child.py, whose optimiser leaves it untrained;
    ours trains it). On maps smaller than 5 the pool covers the whole map.
    """

    def __init__(self, channels: int, height: int, width: int, classes: int, generator: torch.Generator):
        super().__init__()
        self.window = (min(5, height), min(5, width))
        pixels = halve(height - self.window[0] + 1, 3) * halve(width - self.window[1] + 1, 3)
        narrow, wide = AUXILIARY_CHANNELS
        self.narrow = PointwiseTable(1, channels, narrow, generator)
        self.wide = PointwiseTable(1, pixels * narrow, wide, generator)
        self.classifier = he_normal((wide, classes), wide, generator)

    def forward(self, x: Tensor, norms: Norms) -> Tensor:
        """[M, B, H, W, C] -> logits [M, B, K]."""
        planes = x.relu().flatten(0, 1).permute(0, 3, 1, 2)
        pooled = nn.functional.avg_pool2d(planes, self.window, 3).permute(0, 2, 3, 1)
        pooled = pooled.reshape(*x.shape[:2], *pooled.shape[1:])
        narrow = norms("auxiliary/narrow", kernels.pointwise_norm, pooled, self.narrow.weights())
        narrow = narrow.reshape(*x.shape[:2], 1, 1, -1)
        wide = norms("auxiliary/wide", kernels.pointwise_norm, narrow, self.wide.weights())
        return linear(wide.flatten(2).relu().to(self.classifier.dtype), self.classifier)
