"""The definition of augmentation, in plain torch: random changes of stored images, normalised, as one gather."""

from typing import NamedTuple

import torch
from torch import Tensor


class Changes(NamedTuple):
    """What is done to each of N images: a shift, then a flip, then a blank square."""

    shifts: Tensor  # int64 [N, 2]: the row and the column of the stored image that come to row 0 and column 0
    flips: Tensor  # bool [N]: mirrored left and right
    corners: Tensor  # int64 [N, 2]: the top row and the left column of the square
    cutout: int  # side of the square in pixels; 0 for none


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images uint8 [..., C] as [..., C] of the type of mean and std [C]: (image / 255 - mean) / std."""
    return (images / 255 - mean) / std


def augment(
    images: Tensor,
    indices: Tensor,
    changes: Changes | None,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The images at `indices`, normalised, changed, and cast.

    Blank, where a shift leaves the stored image and in the square, is zero *after* normalisation: the mean colour of
    the training split, as the ENAS authors normalise before they pad.

    Args:
        images: uint8 [S, H, W, C], as they are stored.
        indices: int64 [N], from 0 to S - 1.
        changes: of the N images; None to normalise only.
        mean, std: float32 or float64 [C], in units of pixel values from 0 to 1.
        dtype: float32, float64 or bfloat16; None for the type of `mean`, in which everything is computed.

    Returns:
        [N, H, W, C] of type `dtype`.
    """
    if changes is None:
        return normalise(images[indices], mean, std).to(dtype or mean.dtype)
    _, height, width, channels = images.shape
    row, column = (torch.arange(size, device=images.device) for size in (height, width))

    # Where each pixel of the result lies in its source image: [N, H] and [N, W].
    source_row = row + changes.shifts[:, :1]
    source_column = column + changes.shifts[:, 1:]
    source_column = torch.where(changes.flips[:, None], source_column.flip(-1), source_column)
    row_is_padding = (source_row < 0) | (source_row >= height)
    column_is_padding = (source_column < 0) | (source_column >= width)

    top, left = changes.corners[:, :1], changes.corners[:, 1:]
    row_is_cut = (row >= top) & (row < top + changes.cutout)
    column_is_cut = (column >= left) & (column < left + changes.cutout)

    blank = (row_is_padding[:, :, None] | column_is_padding[:, None, :]) | (
        row_is_cut[:, :, None] & column_is_cut[:, None, :]
    )

    # One gather of whole pixels; on the CPU four times faster than indexing by image, row and column.
    line = (indices[:, None] * height + source_row.clamp(0, height - 1)) * width
    pixel = line[:, :, None] + source_column.clamp(0, width - 1)[:, None, :]
    moved = images.reshape(-1, channels).index_select(0, pixel.flatten()).view(len(indices), height, width, channels)
    return normalise(moved, mean, std).masked_fill(blank[..., None], 0.0).to(dtype or mean.dtype)
