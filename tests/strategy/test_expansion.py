"""Blocks of spaces, and the rows that come of changing one."""

import pytest
import torch

from conformance import SPACES, Growing, generator
from enas.space import EnasMicro, NasBench201
from enas.strategy.expansion import Expansion


def test_blocks_are_the_decisions_of_a_node_in_the_order_of_sampling() -> None:
    space = EnasMicro(2)
    owners = [{space.decisions[place].owner for place in block.tolist()} for block in Expansion(space, 100).blocks]
    assert owners == [{f"{cell}/node{node}"} for cell in ("normal", "reduction") for node in (2, 3)]


@pytest.mark.parametrize("name", SPACES)
def test_only_what_belongs_to_the_block_changes(name: str) -> None:
    space = SPACES[name]
    expansion, rows = Expansion(space, 60), space.random(4, generator(1))
    for block, places in enumerate(expansion.blocks):
        taking = rows[expansion.takes_part(rows, block)]
        expanded = expansion.of(taking, block, generator(2))
        assert len(expanded) <= max(60, len(taking))
        assert space.legal(expanded).all()
        if not len(taking):
            continue
        others = torch.ones(rows.shape[1], dtype=torch.bool)
        others[places] = False
        if space.constrained:  # those that break a rule are missing
            same = expanded[:, None, others] == taking[None][:, :, others]
            assert same.all(dim=2).any(dim=1).all()
            continue
        origin = taking.repeat_interleave(len(expanded) // len(taking), dim=0)
        both = space.active(origin) & space.active(expanded) & others
        assert torch.equal(origin[both], expanded[both])


def test_few_alternatives_are_all_taken_and_of_many_a_part_is_drawn() -> None:
    space = NasBench201()
    row = space.random(1, generator(1))
    whole = Expansion(space, 125).of(row, 2, generator())
    assert len(whole.unique(dim=0)) == 125
    one, other = (Expansion(space, 124).of(row, 2, generator(seed)) for seed in (1, 2))
    assert len(one) == len(other) == 124
    assert not torch.equal(one, other)


def test_the_first_level_of_a_growing_space_has_the_first_block_alone() -> None:
    space = Growing()
    expansion = Expansion(space, 100)
    assert expansion.grows
    first = expansion.first(generator())
    assert len(first) == 2  # widths
    assert (first[:, 1:] == 0).all()
    second = expansion.of(first, 1, generator()).unique(dim=0)
    assert len(second) == 2 * 3 * 2  # one of three operations and two ways to combine
    rows = space.random(200, generator())
    for blocks in range(1, 5):
        cut = expansion.cut(rows, blocks)
        assert space.legal(cut).all()
        taking = [bool(expansion.takes_part(cut[cut[:, 2] > 0], block).any()) for block in range(2, 4)]
        assert taking == [blocks >= 2, blocks >= 3]
    assert torch.equal(expansion.cut(rows, 4), rows)


def test_other_spaces_have_no_rows_of_one_block() -> None:
    space = NasBench201()
    expansion, rows = Expansion(space, 100), space.random(5, generator())
    assert not expansion.grows
    assert not len(expansion.first(generator()))
    assert torch.equal(expansion.cut(rows, 1), rows)
