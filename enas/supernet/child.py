"""One architecture as a network of its own: cut out of a supernet, or trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.files import written_whole
from enas.space import Noise, Output, Scale, SearchSpace, build_space

FORMAT, VERSION = "enas-child", 1


class Child(nn.Module):
    """The stand-alone network of one row, with running averages of its own batch-norm statistics.

    In training mode it normalises by the batch, in evaluation mode by the running averages. `decay` is how much of the
    running average survives an update (0.9 in the authors' image_ops.py).
    """

    def __init__(
        self,
        space: SearchSpace,
        row: Sequence[int],
        scale: Scale,
        generator: torch.Generator,
        auxiliary: bool = False,
        decay: float = 0.9,
    ):
        super().__init__()
        space.check(row)
        space.check_partial(scale)
        self.space, self.row, self.scale, self.decay = space, tuple(row), scale, decay
        self.network = space.network(scale, generator, row, auxiliary)
        with torch.no_grad():
            shapes = self.network(space.blank(scale), self._routes(), collect=True).statistics
        self._names = tuple(shapes)
        for name, used in shapes.items():
            running = torch.zeros_like(used)
            running[..., 1, :] = 1.0
            self.register_buffer(_buffer(name), running)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [B, H, W, C] -> logits [B, K]; words int64 [B, T] -> logits [B, T, K]."""
        return self.read(inputs).logits[0]

    def read(self, inputs: Tensor, state: Tensor | None = None) -> Output:
        """What the network gives for inputs [B, ...], going on from `state` where it is recurrent."""
        statistics = None if self.training else self.running_statistics()
        output: Output = self.network(inputs.unsqueeze(0), self._routes(), state, statistics=statistics)
        return output

    def learn(self, inputs: Tensor, noise: Noise, state: Tensor | None = None) -> Output:
        """The forward pass of a training step: inputs [B, ...]; moves the running averages."""
        output: Output = self.network(inputs.unsqueeze(0), self._routes(), state, noise=noise, collect=True)
        with torch.no_grad():
            for name in self._names:
                self.get_buffer(_buffer(name)).lerp_(output.statistics[name], 1 - self.decay)
        return output

    def running_statistics(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(_buffer(name)) for name in self._names}

    def set_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Replace the running averages, for instance by those of a supernet's child over training images."""
        for name in self._names:
            self.get_buffer(_buffer(name)).copy_(statistics[name])

    def _routes(self) -> Tensor:
        routes = self.network.routes
        assert routes is not None
        return routes


def save_child(child: Child, path: Path) -> None:
    """Write `child` with everything needed to build it again; whole or not at all."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "space": {"name": child.space.name, **child.space.arguments},
        "choices": list(child.row),
        "scale": child.scale.document(),
        "state": {name: value for name, value in child.state_dict().items() if ".auxiliary." not in name},
    }
    with written_whole(path) as file:
        torch.save(content, file)


def load_child(path: Path, device: torch.device) -> Child:
    """Read a child in evaluation mode. Raises UserError for a missing, damaged or foreign file."""
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise UserError(f"{path}: cannot be read, the file is damaged or not a child") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(f"{path}: not a child of version {VERSION}")
    try:
        arguments = dict(content["space"])
        space = build_space(arguments.pop("name"), arguments)
        scale = Scale(**content["scale"])
        child = Child(space, content["choices"], scale, torch.Generator().manual_seed(0)).to(device)
        child.load_state_dict(content["state"])
    except (UserError, LookupError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: its weights, choices and scale do not fit together, the file was altered") from error
    return child.eval()


def _buffer(name: str) -> str:
    return f"running/{name}"
