"""The printed account of a whole search, ours beside plain PyTorch's."""

from __future__ import annotations

from enas.bench.search import PARTS, SearchResult
from enas.bench.timing import Interval

MEGA = 2**20
WIDTH = 44


def text(result: SearchResult) -> str:
    """Where the time of an epoch goes on both sides, what the whole search takes, and how far the floors are."""
    steps, updates = result.epoch_steps, result.epoch_updates
    lines = [
        f"{result.case} ({result.data} images, batch {result.batch_size}): an epoch is {steps} steps and {updates} "
        f"updates of {result.samples} rows; n = {result.n} turns of {result.segment_steps} steps and "
        f"{result.segment_updates} updates",
        f"{'':<{WIDTH}} {'ours':>10} {'':>6} {result.peer:>14} {'':>6}  times ours (median, 95 % interval)",
    ]
    for part in (*PARTS, "epoch"):
        own, theirs = (getattr(side, f"{part}_s") for side in (result.ours, result.plain))
        lines.append(
            f"{f'{part}, s an epoch' if part != 'epoch' else 'an epoch, s':<{WIDTH}} "
            f"{own:>10.3f} {own / result.ours.epoch_s:>6.0%} {theirs:>14.3f} {theirs / result.plain.epoch_s:>6.0%}  "
            f"{Interval(*result.ratios[part])}"
        )
    ours, plain = result.ours, result.plain
    lines += [
        _line(f"{result.epochs:g} epochs, min", ours.search_s / 60, plain.search_s / 60, ".2f"),
        _line("training images a second", ours.images_per_s, plain.images_per_s, ".0f"),
        _line("children scored a second", ours.children_per_s, plain.children_per_s, ".1f"),
        _line("launches of a training step", ours.step_launches, plain.step_launches, ".0f"),
    ]
    if ours.peak_bytes is not None and plain.peak_bytes is not None:
        lines.append(_line("peak of memory, MiB", ours.peak_bytes / MEGA, plain.peak_bytes / MEGA, ".0f"))
    for name, floor in result.floors.items():
        said = f"floor on {name}: {floor.epoch_s:.3g} s an epoch"
        lines.append(f"{said:<{WIDTH}} {floor.ours_reached:>10.1%} {'':>6} {floor.peer_reached:>14.1%}")
    return "\n".join(line.rstrip() for line in lines)


def _line(name: str, ours: float, plain: float, form: str) -> str:
    return f"{name:<{WIDTH}} {ours:>10{form}} {'':>6} {plain:>14{form}}"
