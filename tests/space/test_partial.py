"""Partial channels: what passes an operation, what passes it by, and that supernet, path and child agree."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from conformance import CELL_SPACES, RELAXABLE_SPACES, SCALE, generator, images
from enas.errors import UserError
from enas.space import RelaxableSpace, Scale, SearchSpace, load_genotype
from enas.space.partial import beside, narrow, shuffle
from enas.supernet import Child, Supernet, load_child, save_child
from tolerances import assert_same

SMALL = replace(SCALE, layers=3, filters=8, height=9, width=8, partial=4)

spaces = pytest.mark.parametrize("space", RELAXABLE_SPACES.values(), ids=RELAXABLE_SPACES)


def supernet_of(space: SearchSpace, scale: Scale = SMALL) -> Supernet:
    supernet = Supernet(space, scale, generator(1)).double()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
    return supernet


def inputs_of(children: int = 1) -> torch.Tensor:
    return images(children, 3, SMALL).double()


def test_the_first_channels_pass_and_the_others_stand_beside_them() -> None:
    x = torch.arange(8.0).expand(1, 2, 3, 3, 8)
    assert narrow(x, 2).unique().tolist() == [0, 1]
    out = beside(-1 - narrow(x, 2), x, 2)
    assert out[0, 0, 0, 0].tolist() == [-1, -2, 2, 3, 4, 5, 6, 7]
    half = beside(-1 - narrow(x, 2), x, 2, weight=torch.tensor(0.5))
    assert half[0, 0, 0, 0].tolist() == [-1, -2, 1, 1.5, 2, 2.5, 3, 3.5]
    nothing = beside(0 * narrow(x, 2), x, 2, weight=0.0)
    assert (nothing == 0).all()
    assert nothing.shape == x.shape


@pytest.mark.parametrize("side", [4, 5])
def test_with_stride_2_the_others_are_pooled(side: int) -> None:
    x = torch.randn(1, 2, side, side, 4, generator=generator())
    out = beside(narrow(x, 1)[:, :, ::2, ::2], x, 1, stride=2)
    pooled = functional.max_pool2d(x[0].permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
    assert torch.equal(out[0, ..., 1:], pooled[..., 1:])
    assert torch.equal(out[0, ..., 0], x[0, :, ::2, ::2, 0])


def test_channels_are_dealt_out_in_turn() -> None:
    """By hand: groups 01, 23, 45 and 67; first number 0 of each, then number 1."""
    assert shuffle(torch.arange(8.0).view(1, 1, 1, 1, 8), 2).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_all_channels_are_no_partial_channels() -> None:
    x = torch.randn(1, 2, 3, 3, 4, generator=generator())
    assert narrow(x, 4) is x
    assert beside(x, x, 4) is x
    assert shuffle(x, 4) is x


@spaces
def test_the_mixture_of_a_row_is_its_path(space: RelaxableSpace) -> None:
    supernet, rows, inputs = supernet_of(space), space.random(4, generator(4)), inputs_of()
    for row, expected in zip(rows.tolist(), supernet(inputs, rows), strict=True):
        for hard in (False, True):
            assert_same(supernet.mix(inputs, space.to_mixing(row).double(), hard=hard)[0], expected)


@spaces
def test_gradients_flow_to_the_mixing(space: RelaxableSpace) -> None:
    supernet, inputs = supernet_of(space), inputs_of()
    mixing = torch.rand(len(space.edges), len(space.candidates), generator=generator(3), dtype=torch.float64)
    mixing.requires_grad_()
    (gradient,) = torch.autograd.grad(supernet.mix(inputs, mixing)[0, :, 0].sum(), mixing)
    none = space.candidates.index("none")
    assert (gradient[:, none] == 0).all()
    others = [place for place in range(len(space.candidates)) if place != none]
    assert (gradient[:, others] != 0).all()


@spaces
def test_a_child_computes_what_its_path_does_and_costs_what_it_has(space: RelaxableSpace, tmp_path: Path) -> None:
    supernet, inputs = supernet_of(space), inputs_of()
    for row in space.random(3, generator(5)).tolist():
        child = supernet.extract(row)
        choices = torch.tensor([row])
        child.set_statistics(supernet.statistics([inputs], choices))
        child.eval()
        expected = supernet(inputs, choices, statistics=supernet.statistics([inputs], choices))[0]
        assert_same(child(inputs[0]), expected)
        assert sum(parameter.numel() for parameter in child.parameters()) == int(space.cost(choices, SMALL).params)
        wide = Child(space, row, replace(SMALL, partial=1), generator())
        assert sum(p.numel() for p in child.parameters()) <= sum(p.numel() for p in wide.parameters())
    save_child(child, tmp_path / "child.pt")
    loaded = load_child(tmp_path / "child.pt", torch.device("cpu")).double()
    assert loaded.scale == SMALL


@spaces
def test_one_channel_in_four_makes_operations_smaller(space: RelaxableSpace) -> None:
    partial, whole = (supernet_of(space, replace(SMALL, partial=share)) for share in (4, 1))
    assert sum(p.numel() for p in partial.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("name", [name for name in CELL_SPACES if name not in RELAXABLE_SPACES])
def test_other_spaces_refuse(name: str) -> None:
    space = CELL_SPACES[name]
    scale = replace(SMALL, layers=space.default_layers)
    with pytest.raises(UserError, match=f"space {space.name}: its networks cannot let channels pass an operation by"):
        Supernet(space, scale, generator())
    with pytest.raises(UserError, match=f"space {space.name}: its networks cannot"):
        Child(space, space.random(1, generator())[0].tolist(), scale, generator())


@pytest.mark.parametrize("partial", [0, 3])
def test_channels_that_do_not_divide_are_refused(partial: int) -> None:
    with pytest.raises(UserError, match=rf"network\.filters=8: of an edge's channels one in {partial}"):
        replace(SMALL, partial=partial)


@spaces
def test_a_genotype_keeps_it_and_an_old_one_has_all_channels(space: RelaxableSpace, tmp_path: Path) -> None:
    row = space.random(1, generator())[0].tolist()
    for scale in (SMALL, replace(SMALL, partial=1)):
        path = tmp_path / f"{scale.partial}.json"
        space.genotype(row, scale, {}, {}).write(path)
        genotype, _ = load_genotype(path)
        document: dict[str, Any] = genotype.cost["scale"]
        assert ("partial" in document) == (scale.partial > 1)
        assert Scale(**document) == scale
    content = json.loads((tmp_path / "4.json").read_text(encoding="utf-8"))
    content["cost"]["scale"]["partial"] = 0
    (tmp_path / "4.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"cost\.scale has to hold whole numbers above 0"):
        load_genotype(tmp_path / "4.json")
