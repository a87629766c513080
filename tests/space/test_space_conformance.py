"""What every search space must hold, over SPACES; what those with networks must; and those that share no weights."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch

from conformance import CELL_SPACES, SCALE, SCRATCH_SPACES, SPACES, generator, inputs, scale_of
from enas.api import scale_for
from enas.data import digits
from enas.draw import draw_graph
from enas.errors import UserError
from enas.final import FinalTraining
from enas.randomness import Randomness
from enas.record import Record
from enas.space import SearchSpace, load_genotype
from enas.space.base import Kind
from enas.supernet import Child, Supernet
from tolerances import assert_same

ROWS = 200

all_spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
cell_spaces = pytest.mark.parametrize("space", CELL_SPACES.values(), ids=CELL_SPACES)
scratch_spaces = pytest.mark.parametrize("space", SCRATCH_SPACES.values(), ids=SCRATCH_SPACES)
NETWORKS = {**CELL_SPACES, **SCRATCH_SPACES}
network_spaces = pytest.mark.parametrize("space", NETWORKS.values(), ids=NETWORKS)


@all_spaces
def test_decisions_are_well_formed(space: SearchSpace) -> None:
    names = [decision.name for decision in space.decisions]
    assert len(set(names)) == len(names)
    by_vocabulary: dict[str, int] = {}
    for decision in space.decisions:
        assert decision.kind in get_args(Kind)
        assert len(decision.alternatives) >= 1
        assert len(set(decision.alternatives)) == len(decision.alternatives)
        if decision.kind in ("source", "skip"):
            assert decision.owner not in decision.alternatives  # no node reads itself
        else:
            size = by_vocabulary.setdefault(decision.vocabulary, len(decision.alternatives))
            assert size == len(decision.alternatives)


@all_spaces
def test_each_alternative_says_which_nodes_its_owner_reads(space: SearchSpace) -> None:
    owners = list(dict.fromkeys(decision.owner for decision in space.decisions))
    for decision in space.decisions:
        sources = space.sources_of(decision)
        assert len(sources) == len(decision.alternatives)
        for node in (node for nodes in sources for node in nodes):
            assert node not in owners[owners.index(decision.owner) :]
            assert node.rpartition("/")[0] == decision.owner.rpartition("/")[0]


@all_spaces
def test_sizes_are_the_numbers_of_alternatives(space: SearchSpace) -> None:
    assert space.sizes(torch.device("cpu")).tolist() == [len(decision.alternatives) for decision in space.decisions]


@all_spaces
def test_sampling_order_is_a_permutation_in_which_steps_and_owners_stay_together(space: SearchSpace) -> None:
    assert sorted(space.sampling_order) == list(range(len(space.decisions)))
    for attribute in ("step", "owner"):
        seen = [getattr(space.decisions[place], attribute) for place in space.sampling_order]
        changes = sum(one != other for one, other in pairwise(seen))
        assert changes == len(set(seen)) - 1, attribute


@all_spaces
def test_a_source_is_sampled_after_the_nodes_it_may_name(space: SearchSpace) -> None:
    owners = {decision.owner for decision in space.decisions}
    finished: set[str] = set()
    current = None
    for place in space.sampling_order:
        decision = space.decisions[place]
        if decision.owner != current:
            finished |= set() if current is None else {current}
            current = decision.owner
        if decision.kind in ("source", "skip"):
            assert {node for node in decision.alternatives if node in owners} <= finished


@all_spaces
def test_random_rows_are_legal_and_use_every_alternative(space: SearchSpace) -> None:
    rows = space.random(2000, generator())
    assert rows.dtype == torch.int64
    assert space.legal(rows).all()
    for place, decision in enumerate(space.decisions):
        assert set(rows[:, place].tolist()) == set(range(len(decision.alternatives))), decision.name


@all_spaces
def test_random_rows_follow_from_the_generator(space: SearchSpace) -> None:
    assert torch.equal(space.random(ROWS, generator(3)), space.random(ROWS, generator(3)))
    assert not torch.equal(space.random(ROWS, generator(3)), space.random(ROWS, generator(4)))


@all_spaces
def test_a_choice_out_of_range_is_illegal_and_named(space: SearchSpace) -> None:
    row = space.random(1, generator())
    for place, decision in enumerate(space.decisions):
        for choice in (-1, len(decision.alternatives)):
            wrong = row.clone()
            wrong[0, place] = choice
            assert not space.legal(wrong).any()
            with pytest.raises(UserError, match=decision.name):
                space.check(wrong[0].tolist())


@all_spaces
def test_a_row_of_another_length_is_refused(space: SearchSpace) -> None:
    row = space.random(1, generator())[0].tolist()
    for wrong in (row[:-1], [*row, 0], []):
        with pytest.raises(UserError, match=f"{len(wrong)} integers"):
            space.check(wrong)
    space.check(row)


@all_spaces
def test_inactive_decisions_are_zero_in_legal_rows(space: SearchSpace) -> None:
    rows = space.random(ROWS, generator())
    active = space.active(rows)
    assert active.shape == rows.shape
    assert active.dtype == torch.bool
    assert (rows[~active] == 0).all()
    assert bool((~active).any()) == space.conditional


def test_a_choice_of_an_absent_node_breaks_a_rule() -> None:
    space = SPACES["growing"]
    row = [0] * len(space.decisions)
    space.check(row)
    row[next(place for place, decision in enumerate(space.decisions) if decision.kind == "source") + 4] = 1
    assert not space.legal(torch.tensor([row])).any()
    with pytest.raises(UserError, match="breaks a rule of space growing"):
        space.check(row)


@all_spaces
def test_repair_is_idempotent_and_leaves_legal_rows_alone(space: SearchSpace) -> None:
    rows = space.random(ROWS, generator())
    assert torch.equal(space.repair(rows), rows)
    uniform = torch.rand(rows.shape, generator=generator(1))
    raw = (uniform * space.sizes(rows.device)).long()
    repaired = space.repair(raw)
    assert space.legal(repaired).all()
    assert torch.equal(space.repair(repaired), repaired)


@all_spaces
def test_mutation_changes_exactly_one_decision(space: SearchSpace) -> None:
    rows = space.random(ROWS, generator())
    mutated = space.mutate(rows, generator(1))
    assert space.legal(mutated).all()
    both = space.active(rows) & space.active(mutated)
    assert ((mutated != rows) & both).sum(dim=1).eq(1).all()
    assert torch.equal(mutated, space.mutate(rows, generator(1)))


@all_spaces
def test_mutation_reaches_every_neighbour_and_needs_two_alternatives(space: SearchSpace) -> None:
    row = space.random(1, generator())
    changed = space.mutate(row.expand(4000, -1), generator(1))
    active = space.active(row)[0]
    for place, decision in enumerate(space.decisions):
        free = bool(active[place]) and len(decision.alternatives) > 1
        expected = set(range(len(decision.alternatives))) if free else {int(row[0, place])}
        if space.constrained:
            changes = {choice: row.scatter(1, torch.tensor([[place]]), choice) for choice in expected}
            expected = {choice for choice, change in changes.items() if space.legal(change)}
        assert set(changed[:, place].tolist()) >= expected, decision.name
        if bool(active[place]):
            assert set(changed[:, place].tolist()) == expected, decision.name


@all_spaces
def test_neighbours_are_the_rows_one_decision_away(space: SearchSpace) -> None:
    for row in space.random(3, generator()):
        expected = set[tuple[int, ...]]()
        for place in space.active(row[None])[0].nonzero().flatten().tolist():
            for alternative in range(len(space.decisions[place].alternatives)):
                changed = row[None].clone()
                changed[0, place] = alternative
                if not space.constrained:
                    changed = space.repair(changed)
                if bool(space.legal(changed)[0]) and not torch.equal(changed[0], row):
                    expected.add(tuple(changed[0].tolist()))
        neighbours = space.neighbours(row[None])
        if not space.conditional:
            assert ((neighbours != row).sum(dim=1) == 1).all()
        assert len(neighbours) == len(expected) > 0
        assert {tuple(neighbour) for neighbour in neighbours.tolist()} == expected


@all_spaces
def test_canonical_rows_are_legal_and_canonical(space: SearchSpace) -> None:
    canonical = space.canonical(space.random(ROWS, generator()))
    assert space.legal(canonical).all()
    assert torch.equal(space.canonical(canonical), canonical)


@all_spaces
def test_functions_of_rows_treat_each_row_alone(space: SearchSpace) -> None:
    rows = space.random(20, generator())
    for function in (space.active, space.repair, space.canonical, space.legal):
        together = function(rows)
        alone = torch.cat([function(rows[index, None]) for index in range(len(rows))])
        assert torch.equal(together, alone)


@all_spaces
def test_architectures_are_equal_exactly_where_rows_and_spaces_are(space: SearchSpace) -> None:
    row, other = space.random(2, generator()).tolist()
    assert space.architecture(row) == space.architecture(tuple(row))
    assert hash(space.architecture(row)) == hash(space.architecture(tuple(row)))
    assert space.architecture(row) != space.architecture(other)
    assert dict(space.architecture(row).arguments) == space.arguments


@all_spaces
def test_different_rows_are_described_differently(space: SearchSpace) -> None:
    row = space.random(1, generator())
    neighbours = space.mutate(row.expand(500, -1), generator(1)).unique(dim=0)
    rows = [row[0].tolist(), *neighbours.tolist()]
    assert len({str(space.describe(each)) for each in rows}) == len(rows)
    assert len({space.text(each) for each in rows}) == len(rows)


@network_spaces
def test_routes_have_their_shape_and_are_gathers(space: SearchSpace) -> None:
    rows = space.random(7, generator())
    routes = space.route(rows)
    assert routes.dtype == torch.int32
    assert routes.shape[0] == 7
    assert routes.shape[2] == 3
    assert torch.equal(torch.cat([space.route(row[None]) for row in rows]), routes)


@cell_spaces
def test_a_path_equals_the_extracted_child(space: SearchSpace) -> None:
    supernet = Supernet(space, scale_of(space), generator(1)).double()
    rows = space.random(4, generator(2))
    read = inputs(space, batch=2)
    logits = supernet(read, rows)
    assert logits.shape == (4, *read.shape[1 : 3 if space.reads == "text" else 2], SCALE.classes)
    for row, expected in zip(rows.tolist(), logits, strict=True):
        assert_same(supernet.extract(row)(read[0]), expected)


@network_spaces
def test_cost_is_positive_and_grows_with_the_scale(space: SearchSpace) -> None:
    rows = space.random(20, generator())
    small = space.cost(rows, scale_of(space))
    large = space.cost(rows, replace(scale_of(space), filters=2 * SCALE.filters))
    assert small.params.dtype == small.macs.dtype == torch.int64
    assert (small.params > 0).all()
    for little, much in zip(small, large, strict=True):
        assert (much >= 2 * little).all()  # equal where every convolution reads the image
        assert much.sum() > 2 * little.sum()


@network_spaces
def test_drawings_name_every_operation_that_the_graph_names(space: SearchSpace) -> None:
    row = space.random(1, generator())[0].tolist()
    drawings = space.drawings(row)
    assert drawings
    nodes = {name: parts for drawing in drawings.values() for name, parts in drawing.nodes.items()}
    # Parts of one name are one operation.
    apart = [
        {part.name: part.operation for part in parts}
        for drawing in drawings.values()
        for parts in drawing.nodes.values()
    ]
    drawn = sorted(operation for each in apart for operation in each.values())
    idle = {name for name, parts in nodes.items() if not parts}
    active = space.active(torch.tensor([row]))[0].tolist()
    pairs = zip(space.decisions, row, active, strict=True)
    chosen = [(decision, choice) for decision, choice, active in pairs if active and decision.owner not in idle]
    named = (decision.alternatives[choice] for decision, choice in chosen if decision.kind == "operation")
    if any(decision.kind == "operation" for decision in space.decisions):
        assert drawn == sorted(name for name in named if name != "none")
    for drawing in drawings.values():
        known = {*drawing.inputs}
        for name, parts in drawing.nodes.items():
            assert {part.source for part in parts} <= known
            known.add(name)
        assert set(drawing.output) <= known
        draw_graph(drawing, "drawn")


@scratch_spaces
def test_a_space_that_cannot_share_weights_is_refused_by_a_supernet_and_trains_from_scratch(
    space: SearchSpace, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"space {space.name} cannot share weights"):
        Supernet(space, scale_of(space), generator())
    data, row = digits(), space.random(1, generator(1))[0].tolist()
    scale = scale_for(data, scale_of(space).layers, filters=8)
    child = Child(space, row, scale, generator(2))
    cost = space.cost(torch.tensor([row]), scale)
    assert sum(parameter.numel() for parameter in child.parameters()) == int(cost.params)
    randomness = Randomness(0, FinalTraining.PURPOSES, torch.device("cpu"))
    training = FinalTraining(child, data, randomness, epochs=3, progress=False)
    with Record.create(tmp_path / "run") as record:
        training.run(record)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [line["train/loss"] for line in map(json.loads, lines) if "train/loss" in line]
    assert losses[-1] < losses[0] - 0.05
    space.genotype(row, scale, {}, {}).write(tmp_path / "genotype.json")
    genotype, read = load_genotype(tmp_path / "genotype.json")
    assert list(genotype.architecture.choices) == row
    assert read.arguments == space.arguments
