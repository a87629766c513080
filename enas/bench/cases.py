"""What a comparison is made of, and what comes out of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from enas.bench.launches import Launches
from enas.bench.machine import peer_precision
from enas.bench.timing import Call, Samples, median, ratios
from enas.precision import STORAGE

OURS = "ours"
LAYOUTS: Mapping[str, torch.memory_format] = {
    "nchw": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
"""Plain PyTorch's two ways of storing planes."""
COMPILED = "compile"

Module = TypeVar("Module", bound=nn.Module)


def in_layout(module: Module, layout: str, device: torch.device) -> Module:
    """The module itself, on `device`, its convolutions' weights stored as `LAYOUTS` says."""
    return module.to(device).to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload,no-any-return]


def to_planes(inputs: Tensor, layout: str) -> Tensor:
    """[B, H, W, C] as the peer has it."""
    return inputs.permute(0, 3, 1, 2).contiguous(memory_format=LAYOUTS[layout])


@dataclass(frozen=True)
class Setting:
    """What all cases of one comparison share.

    compiled  whether torch.compile of a single operation is a peer too
    """

    device: torch.device
    precision: str
    batch_size: int
    seed: int = 0
    compiled: bool = False

    @property
    def storage(self) -> torch.dtype:
        """The type our side stores images in."""
        return STORAGE[self.precision]


@dataclass(frozen=True)
class Sides:
    """What is called in turn, ours under `OURS`; and why a peer is absent, by its name."""

    calls: Mapping[str, Call]
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One thing that both sides compute.

    name        "sepconv/C20H32k3/fwd"
    build       makes its sides and their tensors, which live as long as the sides do
    bytes       moved between memory and the chip at least, where no tensor fits a cache
    operations  arithmetic operations at least; a multiply-add is two
    """

    name: str
    build: Callable[[], Sides]
    bytes: float
    operations: float


@dataclass(frozen=True)
class Result:
    """One line of the output: a case against one peer. Times are medians, of one call, in milliseconds.

    ratio        peer's time divided by ours, the median of the iterations'; it lies in ratio_low .. ratio_high at 95 %
    peer         "nchw", "channels_last" or "compile"; for `memory` the first two
    precision    of our side; peer_precision of the peer's
    n            iterations
    bytes, operations  of one call, by the case's formula
    *_faults     minor page faults of one call, the median
    *_bytes      peak memory of one call, where that was measured and no time
    *_launches   kernels of one step, measured on CUDA and estimated on a CPU
    """

    case: str
    device: str
    precision: str
    peer: str
    ratio: float
    ratio_low: float
    ratio_high: float
    n: int
    peer_precision: str
    batch_size: int
    threads: int
    kernels: str
    ours_ms: float | None = None
    peer_ms: float | None = None
    bytes: float | None = None
    operations: float | None = None
    ours_faults: float | None = None
    peer_faults: float | None = None
    ours_bytes: float | None = None
    peer_bytes: float | None = None
    ours_launches: int | None = None
    peer_launches: int | None = None

    def document(self) -> dict[str, Any]:
        """For JSON: what was not measured is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def results(
    case: Case,
    samples: Mapping[str, Samples],
    setting: Setting,
    kernels: str,
    launches: Mapping[str, Launches] | None = None,
) -> list[Result]:
    """One for each peer; `kernels` is who computed ours, `launches` those of every side, where they were counted."""
    ours = samples[OURS]
    counted = {name: found.total for name, found in (launches or {}).items()}
    found = []
    for name, peer in samples.items():
        if name == OURS:
            continue
        ratio = ratios(peer, ours)
        found.append(
            Result(
                case.name,
                device_name(setting.device),
                setting.precision,
                name,
                *ratio,
                n=len(ours.seconds),
                peer_precision=peer_precision(setting.precision, setting.device),
                batch_size=setting.batch_size,
                threads=torch.get_num_threads(),
                kernels=kernels,
                ours_ms=1e3 * median(ours.seconds).value,
                peer_ms=1e3 * median(peer.seconds).value,
                bytes=case.bytes,
                operations=case.operations,
                ours_faults=median(ours.faults).value,
                peer_faults=median(peer.faults).value,
                ours_launches=counted.get(OURS),
                peer_launches=counted.get(name),
            )
        )
    return found


def device_name(device: torch.device) -> str:
    """The device as it stands in the output."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
