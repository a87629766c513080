"""Architectures, batches of estimates, and the genotype file read and written."""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conformance import CELL_SPACES, SCALE, generator, scale_of
from enas.architecture import Architecture, Estimates
from enas.errors import UserError
from enas.space import EnasMicro, SearchSpace, load_genotype

SPACE = EnasMicro(2)


def estimates() -> Estimates:
    value = torch.tensor([0.2, 0.9, 0.5, 0.9, 0.1])
    return Estimates(
        choices=torch.arange(10).reshape(5, 2),
        value=value,
        error=value / 10,
        metrics={"accuracy": value, "loss": -value},
        images=64,
        step=7,
    )


def test_equal_architectures_hash_equal_whatever_the_order_of_arguments() -> None:
    one = Architecture.of("space", {"nodes": 2, "output": "concat"}, [1, 2])
    other = Architecture.of("space", {"output": "concat", "nodes": 2}, (1, 2))
    assert one == other
    assert len({one, other}) == 1
    assert one.identity == other.identity


@pytest.mark.parametrize(
    "other",
    [
        Architecture.of("other", {"nodes": 2}, [1, 2]),
        Architecture.of("space", {"nodes": 3}, [1, 2]),
        Architecture.of("space", {"nodes": 2}, [2, 1]),
    ],
)
def test_identity_tells_architectures_apart(other: Architecture) -> None:
    one = Architecture.of("space", {"nodes": 2}, [1, 2])
    assert one != other
    assert one.identity != other.identity
    assert len(one.identity) == 12
    assert int(one.identity, 16) >= 0


def test_architectures_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Architecture.of("space", {}, [1]).choices = (2,)  # type: ignore[misc]


def test_top_gives_the_best_first_and_keeps_the_order_of_equals() -> None:
    best = estimates().top(3)
    assert best.choices.tolist() == [[2, 3], [6, 7], [4, 5]]
    assert best.value.tolist() == pytest.approx([0.9, 0.9, 0.5])
    assert best.metrics["loss"].tolist() == pytest.approx([-0.9, -0.9, -0.5])
    assert len(estimates().top(99)) == 5


def test_select_takes_every_field_along() -> None:
    chosen = estimates().select(torch.tensor([4, 0]))
    assert chosen.choices.tolist() == [[8, 9], [0, 1]]
    assert chosen.error.tolist() == pytest.approx([0.01, 0.02])
    assert chosen.metrics["accuracy"].tolist() == pytest.approx([0.1, 0.2])
    assert (chosen.images, chosen.step) == (64, 7)


def test_distinct_keeps_the_first_of_each_canonical_row() -> None:
    distinct = estimates().distinct(lambda rows: rows // 4)  # 0,0 0,0 1,1 1,1 2,2
    assert distinct.choices.tolist() == [[0, 1], [4, 5], [8, 9]]


def test_an_entry_is_plain_numbers() -> None:
    entry = json.loads(json.dumps(estimates().entry(1)))
    assert entry == {
        "choices": [2, 3],
        "value": pytest.approx(0.9),
        "error": pytest.approx(0.09),
        "accuracy": pytest.approx(0.9),
        "loss": pytest.approx(-0.9),
        "images": 64,
        "step": 7,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A genotype file of SPACE."""
    row = SPACE.random(1, generator())[0].tolist()
    path = tmp_path / "genotype.json"
    SPACE.genotype(row, SCALE, {"accuracy": 0.5}, {"seed": 3}).write(path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def refused(path: Path) -> str:
    """The sentence that loading the file is answered with."""
    with pytest.raises(UserError) as caught:
        load_genotype(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"genotype={path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"genotype={path}: ")


@pytest.mark.parametrize("space", CELL_SPACES.values(), ids=CELL_SPACES)
def test_what_is_written_is_read(space: SearchSpace, tmp_path: Path) -> None:
    for index, row in enumerate(space.random(5, generator()).tolist()):
        written = space.genotype(row, scale_of(space), {"accuracy": 0.25, "error": 0.01}, {"seed": index})
        file = tmp_path / f"{index} é.json"
        written.write(file)
        read, found = load_genotype(file)
        assert read == written
        assert read.architecture.choices == tuple(row)
        assert (found.name, found.arguments) == (space.name, space.arguments)
        assert found.describe(row) == written.graph


def test_the_file_is_version_1_as_documented(path: Path) -> None:
    document = json.loads(path.read_text())
    assert list(document) == ["format", "version", "space", "choices", "graph", "cost", "estimate", "provenance"]
    assert (document["format"], document["version"]) == ("enas-genotype", 1)
    assert document["space"] == {"name": "enas_micro", "nodes": 2, "output": "project"}
    assert document["cost"]["scale"] == SCALE.document()
    params, macs = SPACE.cost(torch.tensor([document["choices"]]), SCALE)
    assert (document["cost"]["params"], document["cost"]["macs"]) == (int(params), int(macs))


def test_no_number_that_is_none_is_written(tmp_path: Path) -> None:
    row = [0] * 16
    with pytest.raises(ValueError, match="JSON"):
        SPACE.genotype(row, SCALE, {"accuracy": float("nan")}, {}).write(tmp_path / "genotype.json")
    assert list(tmp_path.iterdir()) == []


def test_every_altered_choice_is_refused(path: Path) -> None:
    document = json.loads(path.read_text())
    for place, choice in enumerate(document["choices"]):
        for other in (*range(-1, 7), 2**70, 1.0, True, "0", None):
            if type(other) is type(choice) and other == choice:
                continue
            altered = copy.deepcopy(document)
            altered["choices"][place] = other
            path.write_text(json.dumps(altered))
            refused(path)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every text in nested dictionaries and lists."""
    if isinstance(value, str):
        yield place
    else:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, key))


def test_every_altered_text_of_the_graph_is_refused(path: Path) -> None:
    document = json.loads(path.read_text())
    places = list(leaves(document["graph"]))
    assert len(places) > 20
    texts = [*sorted({str(_at(document["graph"], place)) for place in places}), "", "concat", "node9"]
    for place in places:
        for text in texts:
            altered = copy.deepcopy(document)
            *outer, last = place
            if _at(altered["graph"], outer)[last] == text:
                continue
            _at(altered["graph"], outer)[last] = text
            path.write_text(json.dumps(altered))
            assert "'choices' and 'graph' disagree at graph." in refused(path)


def _at(value: Any, place: Any) -> Any:
    for key in place:
        value = value[key]
    return value


def test_the_disagreement_is_located(path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph"]["normal"]["nodes"][1]["left"]["operation"] = "convolution"

    assert "graph.normal.nodes[1].left.operation (choices say" in refused(rewritten(path, change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["graph"].pop("reduction"), "graph.reduction"),
        (lambda d: d["graph"].update(more=1), "graph.more"),
        (lambda d: d["graph"]["normal"]["nodes"].pop(), "graph.normal.nodes"),
        (lambda d: d["graph"]["normal"]["output"].append("node2"), "graph.normal.output"),
        (lambda d: d["choices"].pop(), "16 decisions, the row has 15 integers"),
        (lambda d: d["choices"].append(0), "16 decisions, the row has 17 integers"),
        (lambda d: d.update(version=2), "schema version 2 is not supported, only version 1 is"),
        (lambda d: d.update(version=None), "schema version None"),
        (lambda d: d.update(format="other"), "not a genotype file"),
        (lambda d: d.pop("format"), "not a genotype file"),
        (lambda d: d["space"].update(name="unheard"), "space 'unheard' is unknown"),
        (lambda d: d["space"].update(name=3), "the space has no name"),
        (lambda d: d["space"].pop("name"), "the space has no name"),
        (lambda d: d["space"].update(nodes=3), "24 decisions, the row has 16 integers"),
        (lambda d: d["space"].update(nodes="2"), "nodes=2"),
        (lambda d: d["space"].pop("nodes"), "40 decisions, the row has 16 integers"),
        (lambda d: d["space"].update(output="concat"), "disagree at graph.combine"),
        (lambda d: d["space"].update(output=[]), "allowed are project and concat"),
        (lambda d: d["space"].update(depth=3), "no argument 'depth'"),
        *(
            ((lambda d, key=key: d.pop(key)), f"entry '{key}' is missing")
            for key in ("space", "choices", "graph", "cost", "estimate", "provenance")
        ),
        (lambda d: d["cost"].pop("scale"), "cost.scale has to hold whole numbers above 0 for"),
        (lambda d: d["cost"]["scale"].pop("filters"), "cost.scale"),
        (lambda d: d["cost"]["scale"].update(filters=0), "cost.scale"),
        (lambda d: d["cost"]["scale"].update(filters="4"), "cost.scale"),
        (lambda d: d["cost"]["scale"].update(depth=4), "cost.scale"),
        (lambda d: d.update(choices={}), "entry 'choices' is missing or not a list"),
        (lambda d: d.update(graph=[]), "entry 'graph' is missing or not a dict"),
    ],
)
def test_a_foreign_or_altered_file_is_refused(path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    assert said in refused(rewritten(path, change))


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path) -> None:
    text = path.read_text()
    for end in range(0, len(text.rstrip()), 7):
        path.write_text(text[:end])
        assert "truncated or altered" in refused(path)


@pytest.mark.parametrize("content", [b"[]", b"3", b'"genotype"', b"null"])
def test_json_that_is_no_object_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "a JSON object is expected" in refused(path)


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert "truncated or altered" in refused(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json") == "no such file"
    assert "cannot be read" in refused(tmp_path)
