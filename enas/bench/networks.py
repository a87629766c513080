"""Cases of the whole network: a training step of the shared weights, and the scoring of children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from enas.api import scale_for
from enas.architecture import Estimates
from enas.bench.cases import LAYOUTS, OURS, Case, Setting, Sides, in_layout, to_planes
from enas.bench.machine import autocast
from enas.bench.peer import PeerDescent, PeerNetwork
from enas.bench.timing import Call
from enas.data import Augmentation, DataSet, Split, assemble, digits
from enas.descent import Descent
from enas.estimator import Shared
from enas.estimator.base import Scores
from enas.randomness import seeded
from enas.space import EnasMicro, Scale
from enas.space.cells import CellNetwork
from enas.space.enas_micro import CELLS
from enas.space.stacking import stack_cells
from enas.supernet import Supernet

PUBLISHED = Scale(layers=6, filters=20, height=32, width=32, channels=3, classes=10)
"""The authors' search on CIFAR-10: six normal cells and two reduction cells."""
CHILDREN = 10
"""Children scored in one call, as behind one update of the authors' controller."""
ROWS = 64
"""Different children that a step trains in turn."""
RATE, MOMENTUM, WEIGHT_DECAY, CLIP = 1e-3, 0.9, 2e-4, 5.0


def step_cases(setting: Setting) -> Iterator[Case]:
    """One training step: forward, loss, backward, clipping, the optimiser on every shared weight."""
    rows = sample(setting)
    moved, operations = work(PUBLISHED, rows, setting)
    weights = 4 * sum(parameter.numel() for parameter in PeerNetwork(EnasMicro(), PUBLISHED).parameters())
    # Backward reads what forward wrote, with its gradients, and writes gradients: twice as much as forward. The
    # gradient is cleared and read for its norm; the optimiser reads gradient, momentum and weight and writes two.
    yield Case("step/enas_micro", partial(_step, setting, rows), 3 * moved + 7 * weights, 3 * operations)


def score_cases(setting: Setting) -> Iterator[Case]:
    """Scores of ten children on one batch of validation images, of CIFAR's size and of the digits."""
    rows = sample(setting)[:CHILDREN]
    for name, data, layers, filters in (("cifar", noise(setting), 6, 20), ("digits", digits(), 3, 16)):
        scale = scale_for(data, layers, filters)
        moved, operations = work(scale, rows, setting)
        case = partial(_score, setting, data.to(setting.device), scale, rows)
        yield Case(f"score/enas_micro/{name}", case, CHILDREN * moved, CHILDREN * operations)


def sample(setting: Setting) -> Tensor:
    """Random children [ROWS, D]; every iteration of every side takes the same one."""
    return EnasMicro().random(ROWS, seeded(setting.seed, "children"))


def work(scale: Scale, rows: Tensor, setting: Setting) -> tuple[float, float]:
    """Bytes moved and operations of a forward pass of a child on a batch, the mean over `rows`.

    Bytes, where no tensor fits a cache: the output of every convolution before its batch norm is written and read, each
    node is written, and a half of a separable convolution, a node and a projection read what they compute from.
    """
    space = EnasMicro()
    operation = rows.reshape(len(rows), 2, space.edges, 2)[..., 1]
    separable = (operation < 2).double().sum(dim=2).mean(dim=0).tolist()
    loose = space.loose_ends(rows).double().sum(dim=2).mean(dim=0).tolist()
    elements = 3.0 * scale.height * scale.width * 3 * scale.filters  # the stem: written, read, written
    for placement in stack_cells(scale, space.output == "concat").cells:
        kind = CELLS.index(placement.kind)
        height, width = placement.output_size
        # A separable convolution: both halves read and write; a node: two sides read, one written; the projection.
        elements += height * width * placement.filters * (4 * separable[kind] + 3 * space.nodes + loose[kind] + 3)
        for feed in placement.feeds:
            if feed.calibration != "none":
                factor = 4 if feed.calibration == "reduction" else 1
                pixels = placement.height * placement.width
                elements += pixels * (factor * feed.channels + 3 * placement.filters)
    macs = float(space.cost(rows, scale).macs.double().mean())
    return setting.storage.itemsize * setting.batch_size * elements, 2 * setting.batch_size * macs


def noise(setting: Setting) -> DataSet:
    """Random images of CIFAR's size: pixel values change no time."""
    generator = seeded(setting.seed, "pixels")
    pixels = torch.randint(0, 256, (4 * setting.batch_size, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(len(pixels)) % 10
    classes = [str(label) for label in range(10)]
    split = Split(pixels, labels)
    return assemble("noise", split, classes, Augmentation(), valid=split, test=split)


class Contestants:
    """A supernet and peers in both layouts, all with the same weights.

    Only the peers named in `layouts` are built.
    """

    def __init__(self, scale: Scale, setting: Setting, layouts: Iterable[str] = tuple(LAYOUTS)):
        space = EnasMicro()
        self.supernet = Supernet(space, scale, seeded(setting.seed, "weights"))
        assert isinstance(self.supernet.network, CellNetwork)
        self.peers: dict[str, PeerNetwork] = {}
        for layout in layouts:
            peer = PeerNetwork(space, scale)
            peer.copy_weights(self.supernet.network)
            self.peers[layout] = in_layout(peer, layout, setting.device)
        self.supernet.to(setting.device)


def step_of_ours(supernet: Supernet, setting: Setting, rows: Tensor, inputs: Tensor, labels: Tensor) -> Call:
    """A training step on inputs [B, H, W, C], as `enas.train` does it."""
    descent = Descent(supernet.named_parameters(), MOMENTUM, weight_decay=WEIGHT_DECAY, clip=CLIP)
    rows, inputs = rows.to(setting.device), inputs.to(setting.storage).unsqueeze(0)

    def step(iteration: int) -> Tensor:
        place = iteration % len(rows)
        loss = functional.cross_entropy(supernet(inputs, rows[place : place + 1])[0], labels)
        descent.step(loss, RATE)
        return loss.detach()

    return step


def step_of_peer(
    peer: PeerNetwork, layout: str, setting: Setting, rows: Tensor, inputs: Tensor, labels: Tensor
) -> Call:
    """The same step in plain PyTorch."""
    descent = PeerDescent(peer, MOMENTUM, WEIGHT_DECAY, CLIP)
    planes, choices = to_planes(inputs, layout), rows.tolist()

    def step(iteration: int) -> Tensor:
        with autocast(setting.precision, setting.device):
            loss = functional.cross_entropy(peer(planes, choices[iteration % len(choices)]), labels)
        descent.step(loss, RATE)
        return loss.detach()

    return step


def score_of_peer(
    peer: PeerNetwork, layout: str, data: DataSet, setting: Setting, rows: Tensor, generator: torch.Generator
) -> Estimates:
    """What `Shared` does with rows [n, D] on one batch, in plain PyTorch: the rows one after the other."""
    count = min(setting.batch_size, len(data.valid))
    drawn = torch.randperm(len(data.valid), generator=generator, device=setting.device)[:count]
    inputs, labels = data.batch(data.valid, drawn, None)
    planes, scores = to_planes(inputs, layout), Scores(len(rows), setting.device)
    with torch.no_grad(), autocast(setting.precision, setting.device):
        logits = [peer(planes, row) for row in rows.tolist()]
    scores.add(torch.stack(logits).float(), labels)
    return scores.estimates(rows, "accuracy", 0)


def batch(setting: Setting) -> tuple[Tensor, Tensor]:
    """Inputs [B, H, W, C] and labels of a training step at the published shape."""
    generator = seeded(setting.seed, "inputs")
    shape = (setting.batch_size, PUBLISHED.height, PUBLISHED.width, PUBLISHED.channels)
    labels = torch.arange(setting.batch_size) % PUBLISHED.classes
    return torch.randn(shape, generator=generator).to(setting.device), labels.to(setting.device)


def _step(setting: Setting, rows: Tensor) -> Sides:
    both, (inputs, labels) = Contestants(PUBLISHED, setting), batch(setting)
    calls = {OURS: step_of_ours(both.supernet, setting, rows, inputs, labels)}
    for layout, peer in both.peers.items():
        calls[layout] = step_of_peer(peer, layout, setting, rows, inputs, labels)
    return Sides(calls)


def _score(setting: Setting, data: DataSet, scale: Scale, rows: Tensor) -> Sides:
    both = Contestants(scale, setting)
    count = min(setting.batch_size, len(data.valid))
    estimator = Shared(both.supernet, data.stored_as(setting.storage), "accuracy", count, count, CHILDREN)
    on_device = rows.to(setting.device)

    def ours(iteration: int) -> Tensor:
        return estimator.estimate(on_device, seeded(iteration, "images", setting.device)).value

    def theirs(peer: PeerNetwork, layout: str, iteration: int) -> Tensor:
        generator = seeded(iteration, "images", setting.device)
        return score_of_peer(peer, layout, data, setting, on_device, generator).value

    calls: dict[str, Call] = {OURS: ours}
    for layout, peer in both.peers.items():
        calls[layout] = partial(theirs, peer, layout)
    return Sides(calls)
