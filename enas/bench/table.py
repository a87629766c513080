"""The printed table of a comparison: a line a case, and what several cases together say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from enas.bench.cases import COMPILED, LAYOUTS, OURS, Result
from enas.bench.launches import Launches
from enas.bench.machine import Limits
from enas.bench.timing import Interval, geometric_mean

NAME_WIDTH, PEER_WIDTH = 36, 29
MEGA = 2**20
MOST = 8


def heading(limits: Limits | None, peers: Sequence[str]) -> str:
    """The lines above the table; `limits` is None where memory is compared."""
    unit = "ms" if limits else "MiB"
    said = []
    middle = ""
    if limits is not None:
        said.append(
            f"This machine, measured now: copy {limits.copy / 1e9:.1f} GB/s (read and written), "
            f"matrix product {limits.matrix / 1e9:.1f} GFLOP/s"
        )
        middle = f" {'GB':>7} {'GB/s':>7} {'of copy':>8} {'GFLOP':>8} {'GFLOP/s':>8} {'of matrix':>9} {'limit ms':>9}"
    said.append("Each peer: its " + unit + ", and how many times ours that is (median, 95 % interval)")
    columns = "".join(f"  {peer:>{PEER_WIDTH}}" for peer in peers)
    said.append(f"{'case':<{NAME_WIDTH}} {'ours ' + unit:>9}{middle}{columns}")
    return "\n".join(said)


def line(results: Sequence[Result], limits: Limits | None, absent: Mapping[str, str]) -> str:
    """One case against its peers, and why some peer is absent."""
    first = results[0]
    text = f"{first.case:<{NAME_WIDTH}} {_value(first.ours_ms, first.ours_bytes):>9}"
    if limits is not None and first.ours_ms is not None:
        moved, operations = first.bytes or 0.0, first.operations or 0.0
        seconds = first.ours_ms / 1e3
        text += (
            f" {moved / 1e9:7.3f} {moved / seconds / 1e9:7.1f} {moved / seconds / limits.copy:8.0%}"
            f" {operations / 1e9:8.3f} {operations / seconds / 1e9:8.1f} {operations / seconds / limits.matrix:9.0%}"
            f" {1e3 * limits.seconds(moved, operations):9.2f}"
        )
    for result in results:
        ratio = Interval(result.ratio, result.ratio_low, result.ratio_high)
        text += f"  {f'{_value(result.peer_ms, result.peer_bytes)} {ratio}':>{PEER_WIDTH}}"
    text += f"  {'absent':>{PEER_WIDTH}}" * len(absent)
    return "\n".join([text, *(f"  {peer}: absent, it failed: {reason}" for peer, reason in absent.items())])


def launches(counted: Mapping[str, Launches]) -> str:
    """How many kernels one step of each side is, and which of ours there are most of."""
    if not counted:
        return ""
    lines = [f"  launches of a step, {name}: {found}" for name, found in counted.items()]
    most = list(counted[OURS].names.items())[:MOST]
    return "\n".join([*lines, "  most of ours: " + ", ".join(f"{name} {number}" for name, number in most)])


def summary(results: Iterable[Result]) -> str:
    """For each group of cases: the ratios against the better of plain PyTorch's two layouts."""
    best: dict[str, dict[str, float]] = {}
    for result in results:
        if result.peer in LAYOUTS:
            parts = result.case.split("/")
            group = f"{parts[0]}/*/{parts[-1]}"
            ratios = best.setdefault(group, {})
            ratios[result.case] = min(result.ratio, ratios.get(result.case, result.ratio))
    lines = [
        f"{group}: {geometric_mean(list(ratios.values())):.2f} times as fast as the better layout "
        f"(geometric mean of {len(ratios)}; lowest {min(ratios.values()):.2f} in {min(ratios, key=ratios.__getitem__)})"
        for group, ratios in best.items()
        if len(ratios) > 1
    ]
    return "\n".join(lines)


def peers(compiled: bool) -> list[str]:
    """The columns of the peers."""
    return [*LAYOUTS, COMPILED] if compiled else list(LAYOUTS)


def _value(milliseconds: float | None, size: float | None) -> str:
    return f"{milliseconds:.2f}" if milliseconds is not None else f"{(size or 0.0) / MEGA:.1f}"
