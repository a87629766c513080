"""Partial channels: an edge's operation sees some of the channels, the others pass it by (Xu et al. 2020, PC-DARTS).

A cell says how many `channels` pass operations. Where these are all, every function here gives what it was given.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def narrow(x: Tensor, channels: int) -> Tensor:
    """The first `channels` of x [1, B, H, W, C], which an operation reads."""
    return x if x.shape[-1] == channels else x[..., :channels].contiguous()


def beside(operated: Tensor, x: Tensor, channels: int, stride: int = 1, weight: float | Tensor = 1.0) -> Tensor:
    """What the operations gave [1, B, H', W', channels], and beside it the other channels of x [1, B, H, W, C].

    With stride 2 these are the maximum of each 2 x 2 pixels, as the authors have it. `weight` is that of the edge: a
    scalar tensor in a mixture, 0.0 where nothing passes.
    """
    if x.shape[-1] == channels:
        return operated
    if not isinstance(weight, Tensor) and weight == 0:
        return functional.pad(operated, (0, x.shape[-1] - channels))
    rest = x[..., channels:]
    if stride > 1:
        pooled = functional.max_pool2d(rest[0].permute(0, 3, 1, 2), stride, stride, ceil_mode=True)
        rest = pooled.permute(0, 2, 3, 1).unsqueeze(0)
    return torch.cat([operated, rest if not isinstance(weight, Tensor) else weight * rest], dim=-1)


def shuffle(x: Tensor, channels: int) -> Tensor:
    """The channels of a node [1, B, H, W, C] dealt out anew, so that the next operations read of both kinds.

    ShuffleNet's rule: of C / channels groups that stand one after the other, first number 0 of each, then number 1.
    """
    if x.shape[-1] == channels:
        return x
    return x.reshape(*x.shape[:-1], -1, channels).transpose(-1, -2).flatten(-2)
