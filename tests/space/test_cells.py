"""The randomness of training passes, the auxiliary head, and which rows a child keeps."""

from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import SCALE, generator, images
from enas import kernels
from enas.space import EnasMicro, Noise
from enas.space.cells import CellNetwork
from enas.space.rows import KeptRows
from enas.supernet import Supernet
from tolerances import assert_same, probability

SPACE = EnasMicro(3)


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """The `scale` that each cell of later forward passes is computed with."""
    seen: list[Tensor | None] = []
    original = kernels.cell

    def recorded(*arguments: Any, **named: Any) -> Any:
        seen.append(signature(original).bind(*arguments, **named).arguments.get("scale"))
        return original(*arguments, **named)

    monkeypatch.setattr(kernels, "cell", recorded)
    return seen


def test_evaluation_and_plain_training_drop_no_path(scales: list[Tensor | None]) -> None:
    supernet, rows = Supernet(SPACE, SCALE, generator(1)), SPACE.random(2, generator())
    plain = supernet(images(), rows)
    quiet = supernet(images(), rows, noise=Noise(generator()))
    assert scales == [None] * 6
    assert torch.equal(plain, quiet)


@pytest.mark.parametrize(("progress", "dropped"), [(1.0, 0.6), (0.5, 0.6), (0.0, 0.6), (1.0, 0.3)])
def test_paths_are_dropped_by_depth_and_progress(scales: list[Tensor | None], progress: float, dropped: float) -> None:
    supernet = Supernet(SPACE, replace(SCALE, height=2, width=2), generator(1))
    operations = torch.tensor([[0, 1, 2, 3, 4, 0] * 2, [4, 4, 3, 2, 1, 0] * 2])
    rows = torch.stack([torch.zeros_like(operations), operations], dim=2).flatten(1)
    inputs = images(2, 400)[:, :, :2, :2]
    supernet(inputs, rows, noise=Noise(generator(), drop_path=dropped, progress=progress))
    routes = SPACE.route(rows)
    cells = (routes[:, 6:], routes[:, 6:], routes[:, :6])  # two reduction cells and a normal one
    for position, (scale, edges) in enumerate(zip(scales, cells, strict=True)):
        assert scale is not None
        assert scale.shape == (2, 6, 400)
        keep = 1 - dropped * progress * (position + 1) / 3
        identity = edges[..., 1] == kernels.IDENTITY
        assert identity.any()
        assert (scale[identity] == 1).all()
        others = scale[~identity]
        kept = others != 0
        assert_same(others[kept], torch.full_like(others[kept], 1 / keep))
        assert abs(float(kept.float().mean()) - keep) < probability(kept.numel())
        if 0 < keep < 1:
            assert len({tuple(edge.tolist()) for edge in others}) == len(others)  # each edge and child its own


def test_randomness_follows_from_the_generator() -> None:
    supernet, rows = Supernet(SPACE, SCALE, generator(1)), SPACE.random(2, generator())

    def logits(seed: int) -> Tensor:
        noise = Noise(generator(seed), dropout=0.3, drop_path=0.3)
        result: Tensor = supernet(images(), rows, noise=noise)
        return result

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


def test_dropout_zeroes_features_and_keeps_their_mean() -> None:
    features = 4 * SCALE.filters  # of the last cell
    network = SPACE.network(replace(SCALE, classes=features), generator(1))
    assert isinstance(network, CellNetwork)
    with torch.no_grad():
        network.head.copy_(torch.eye(features)[None])
        routes = SPACE.route(SPACE.random(2, generator()))
        inputs = images(batch=300)
        pooled = network(inputs, routes).logits
        dropped = network(inputs, routes, noise=Noise(generator(), dropout=0.25)).logits
    live = pooled > 0
    assert live.any()
    zero = dropped[live] == 0
    assert_same(dropped[live][~zero], pooled[live][~zero] / 0.75)
    assert abs(float(zero.float().mean()) - 0.25) < probability(zero.numel())


@pytest.mark.parametrize("output", ["project", "concat"])
@pytest.mark.parametrize("size", [(32, 32), (28, 20), (8, 8), (5, 3)])
def test_the_auxiliary_head_fits_images_of_any_size(output: str, size: tuple[int, int]) -> None:
    space = EnasMicro(2, output)  # type: ignore[arg-type]
    scale = replace(SCALE, filters=2, height=size[0], width=size[1])
    row = space.random(1, generator())[0].tolist()
    network = space.network(scale, generator(), row, auxiliary=True)
    inputs = images(batch=4, scale=scale)
    assert network.routes is not None
    output_ = network(inputs, network.routes, noise=Noise(generator()), collect=True)
    assert output_.auxiliary is not None
    assert output_.auxiliary.shape == (1, 4, scale.classes)
    assert {"auxiliary/narrow", "auxiliary/wide"} <= output_.statistics.keys()
    assert network(inputs, network.routes).auxiliary is None


def test_the_auxiliary_head_is_the_published_one() -> None:
    scale = replace(SCALE, layers=6, filters=20, height=32, width=32)
    row = SPACE.random(1, generator())[0].tolist()
    network = SPACE.network(scale, generator(), row, auxiliary=True)
    assert isinstance(network, CellNetwork)
    head = network.auxiliary
    assert head is not None
    assert network.auxiliary_after == 6
    assert head.narrow.weight.shape == (1, 80, 128)
    assert head.wide.weight.shape == (1, 2 * 2 * 128, 768)  # 8 x 8, pooled by 5 with stride 3
    assert head.classifier.shape == (768, scale.classes)


def test_a_child_keeps_the_rows_of_its_edges_and_no_other() -> None:
    for row in SPACE.random(30, generator()).tolist():
        routes = SPACE.route(torch.tensor([row]))[0]
        for kind, edges in (("normal", routes[:6]), ("reduction", routes[6:])):
            kept = KeptRows.of(edges, kind)  # type: ignore[arg-type]
            codes = [code for _, code, _ in edges.tolist()]
            assert len(kept.separable3) == codes.count(kernels.SEPARABLE_3)
            assert len(kept.separable5) == codes.count(kernels.SEPARABLE_5)
            compact = kept.compact(edges)
            assert torch.equal(compact[:, :2], edges[:, :2])
            for code, table in ((0, kept.separable3), (1, kept.separable5), (4, kept.identity)):
                for (source, found, own), (_, _, shared) in zip(compact.tolist(), edges.tolist(), strict=True):
                    if found == code and (code != 4 or (kind == "reduction" and source < 2)):
                        assert table[own] == shared
