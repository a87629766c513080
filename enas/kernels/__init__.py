"""The operations a network is made of. `reference` is their definition; a native build may stand in for it."""

from enas.errors import UserError
from enas.kernels.augmentation import Changes, augment, normalise
from enas.kernels.reference import (
    AVERAGE_POOL_3,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    CellWeights,
    Pointwise,
    Separable,
    Statistics,
    cell,
    convolution_norm,
    pointwise_norm,
    reduction_norm,
)

__all__ = [
    "AVERAGE_POOL_3",
    "IDENTITY",
    "MAX_POOL_3",
    "SEPARABLE_3",
    "SEPARABLE_5",
    "CellWeights",
    "Changes",
    "Pointwise",
    "Separable",
    "Statistics",
    "augment",
    "cell",
    "convolution_norm",
    "normalise",
    "pointwise_norm",
    "reduction_norm",
    "select",
]


def select(choice: str) -> None:
    """Choose who computes the kernels: "auto" takes the best there is, "reference" plain torch.

    Raises UserError for "native", which this version does not have, and for anything unknown.
    """
    if choice == "native":
        raise UserError("kernels=native: this version has no native kernels; allowed are auto and reference")
    if choice not in ("auto", "reference"):
        raise UserError(f"kernels={choice}: allowed are auto, native and reference")
