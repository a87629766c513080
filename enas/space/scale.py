"""The size at which a space becomes a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from enas.errors import UserError


@dataclass(frozen=True)
class Scale:
    """The size at which a space is instantiated: `layers` and `filters` mean what the space says they mean.

    Text has a height, width and channels of 1, and its classes are its vocabulary.

    partial  of the channels that an edge reads, the first 1 / partial pass its operation, the rest passes it by (Xu et
             al. 2020, PC-DARTS); for spaces that say `partial`. 1: all pass it. Otherwise no file need mention it
    """

    layers: int
    filters: int
    height: int
    width: int
    channels: int
    classes: int
    partial: int = 1

    def __post_init__(self) -> None:
        for key in ("layers", "filters"):
            if getattr(self, key) < 1:
                raise UserError(f"network.{key}={getattr(self, key)}: allowed is 1 or more")
        if self.partial < 1 or self.filters % self.partial:
            raise UserError(
                f"network.filters={self.filters}: of an edge's channels one in {self.partial} is to pass its "
                "operation; allowed are multiples of that number"
            )

    def document(self) -> dict[str, int]:
        """As it stands in files; `partial` only where it is not 1, so that old files mean what they always did."""
        return {name: size for name, size in asdict(self).items() if name != "partial" or size != 1}
