"""The definition of a step of gradient descent, in plain torch: norm, clipping, decay, momentum, and the move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def descend(
    weights: Sequence[Tensor],
    momenta: Tensor,
    gradients: Sequence[Tensor | None],
    decays: Sequence[float],
    rate: Tensor,
    momentum: float,
    nesterov: bool,
    clip: float | None,
) -> Tensor:
    """Move weights and their momenta in place, each weight by

        change = factor * gradient + decay * weight
        own = momentum * own + change
        weight = weight - rate * (change + momentum * own if nesterov else own)

    where `own` is its part of the momenta and the factor what clipping leaves of the whole gradient:
    min(1, clip / (norm + 1e-6)).

    Args:
        weights: tensors of one type, float32 or float64, on one device.
        momenta: [N] of their type, one for each number of the weights in their order; zero at first.
        gradients: of their shapes; None for zero. They stay as they are.
        decays: one for each tensor.
        rate: [], the learning rate, on their device: the host need not know it.
        momentum: from 0 to less than 1.
        nesterov: whether a weight moves by where its momentum leads next.
        clip: largest norm of the whole gradient, above 0; None for any.

    Returns:
        The norm [] of the whole gradient, before it is clipped; not finite where some number of it is not.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    norm = nn.utils.get_total_norm(present) if present else momenta.new_zeros(())
    factor = 1.0 if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
    parts = momenta.split_with_sizes([weight.numel() for weight in weights])
    for weight, part, gradient, decay in zip(weights, parts, gradients, decays, strict=True):
        own, change = part.view_as(weight), decay * weight
        if gradient is not None:
            change += factor * gradient
        own.mul_(momentum).add_(change)
        weight -= rate * (change + momentum * own if nesterov else own)
    return norm
