"""Images, text or a table: that a space, data and what brings them together are of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from enas.data import Benchmark, DataSet, Text
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
    space: SearchSpace,
    data: DataSet | Text | Benchmark,
    made_for: Material | Literal["table"] | None = None,
    group: str = "train",
) -> None:
    """Raise UserError, one sentence, where `space` reads what `data` does not hold, or neither is what is `made_for`.

    A table holds results of one space: only what is made for tables takes it.

    group  of the configuration that chooses what is made for one kind: "train", "estimator" or "estimator.train"
    """
    if isinstance(data, Benchmark):
        data.check(space)
        if made_for is not None and made_for != data.material:
            raise UserError(
                f"{group}: the one chosen is for {made_for}, and the {data.name} data is a table of results; "
                f"take estimator=table, or data of {made_for}"
            )
        return
    if made_for == "table":
        raise UserError(
            f"estimator=table: it needs a table of results, and the {data.name} data is {data.material}; "
            "take data=nasbench201 or data=nasbench101"
        )
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
