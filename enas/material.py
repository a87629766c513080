"""Images or text: that a space, a data set and what brings them together are of one kind."""

from __future__ import annotations

from collections.abc import Mapping

from enas.data import DataSet, Text
from enas.errors import UserError
from enas.space import Material, SearchSpace

CHOICES: Mapping[Material, Mapping[str, str]] = {
    "images": {
        "train": "train=shared (final in enas-train)",
        "estimator": "estimator=shared",
        "estimator.train": "estimator=scratch",
    },
    "text": {
        "train": "train=language (language_final in enas-train)",
        "estimator": "estimator=language",
        "estimator.train": "estimator=scratch_language",
    },
}
"""The groups whose choices are made for one kind."""


def check_material(
    space: SearchSpace, data: DataSet | Text, made_for: Material | None = None, group: str = "train"
) -> None:
    """Raise UserError, one sentence, where `space` reads what `data` does not hold, or neither is what is `made_for`.

    group  of the configuration that chooses what is made for one kind: "train", "estimator" or "estimator.train"
    """
    if space.reads != data.material:
        raise UserError(
            f"space={space.name} reads {space.reads} and the {data.name} data is {data.material}: "
            f"choose data of {space.reads}, or a space that reads {data.material}"
        )
    if made_for is not None and made_for != space.reads:
        raise UserError(
            f"{group}: the one chosen is for {made_for}, and space={space.name} reads {space.reads}; "
            f"take {CHOICES[space.reads][group]}"
        )
