"""How exactly a run computes and stores."""

from __future__ import annotations

import torch

from enas.errors import UserError

STORAGE = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
"""The precisions, and the type in which each stores images and what is computed from them."""


def select(precision: str) -> torch.dtype:
    """Choose the precision of this process; returns the type that batches of images have to have.

    fp32  float32 throughout; torch's products on CUDA do not round to TF32, as its convolutions do unless told
    tf32  torch's products on CUDA may round their factors to TF32
    bf16  images and activations are stored in bfloat16; weights, arithmetic and statistics stay those of fp32

    Raises UserError for anything else.
    """
    if precision not in STORAGE:
        raise UserError(f"precision={precision}: allowed are {', '.join(STORAGE)}")
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return STORAGE[precision]
