"""The commands on text: a search by either strategy, what it leaves behind, its final training, and every mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from enas.data import text
from enas.estimator import Language
from enas.language.final import evaluate
from enas.randomness import seeded
from enas.record import load_checkpoint
from enas.space import load_genotype
from enas.supernet import Supernet, load_child
from tolerances import assert_same

from .conftest import VERBS, Call, called

COMMON = ("threads=1", "progress=false", "device=cpu", "data=text", "batch_size=4")
SEARCH = (
    *COMMON, "space=enas_rnn", "train=language", "estimator=language", "objective=perplexity", "network.layers=1",
    "network.filters=6", "space.nodes=2", "train.steps=4", "updates=2", "samples=2", "candidates=3", "rescored=2",
    "watched=2", "epochs=2",
)  # fmt: skip
TRAIN = (*COMMON, "train=language_final", "epochs=2", "train.steps=4", "train.scored=4")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a text") / "é"
    folder.mkdir()
    for split, lines in {"train": 60, "valid": 30, "test": 30}.items():
        words = (" ".join(f"w{line * place % 7}" for place in range(1, 9)) for line in range(lines))
        (folder / f"{split}.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def search(folder: Path, root: Path, strategy: str) -> Path:
    given = (*SEARCH, f"strategy={strategy}", f"data.root={root}", f"run_dir={folder}")
    assert called(VERBS["search"].main, "enas-search", *given) == 0
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The run directory of a search by reinforce."""
    return search(tmp_path_factory.mktemp("searched") / "run", root, "reinforce")


def test_what_a_search_leaves_behind(searched: Path, root: Path) -> None:
    check_what_a_search_leaves_behind(searched, root)


def test_chance_searches_a_text(tmp_path: Path, root: Path) -> None:
    check_what_a_search_leaves_behind(search(tmp_path / "run", root, "random"), root)


def check_what_a_search_leaves_behind(searched: Path, root: Path) -> None:
    genotype, space = load_genotype(searched / "genotype.json")
    assert (space.name, space.arguments) == ("enas_rnn", {"nodes": 2, "output": "all"})
    assert genotype.cost["scale"]["classes"] == len(read(searched / "vocabulary.json")) == 8
    assert genotype.estimate["objective"] == "80/perplexity"
    assert genotype.estimate["value"] == pytest.approx(80 / genotype.estimate["perplexity"])
    assert "recurrent cell" in (searched / "cell_recurrent.svg").read_text()
    assert read(searched / "vocabulary.json") == list(text(root).classes)
    log = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [4, 8, 9]
    assert all(1 < line["weights/perplexity"] < 20 for line in log[:2])


def test_the_child_is_its_row_of_the_supernet(searched: Path, root: Path) -> None:
    state, data = load_checkpoint(searched / "checkpoint.pt"), text(root)
    child = load_child(searched / "child.pt", torch.device("cpu"))
    supernet = Supernet(child.space, child.scale, seeded(0, "any"))
    supernet.load_state_dict(state["training"]["supernet"])
    words = data.valid[:40].view(4, 10)
    assert_same(child(words), supernet(words[None], torch.tensor([child.row]))[0])
    shared = Language(supernet, data, batch_size=4).estimate(torch.tensor([child.row]))
    own = evaluate(child, data.valid[: len(data.valid) // 4 * 4].view(4, -1), 35)
    assert own["perplexity"] == pytest.approx(float(shared.metrics["perplexity"]), rel=1e-5)


def test_the_found_cell_is_trained_beside_a_random_one(searched: Path, root: Path, enas: Call) -> None:
    given = (*TRAIN, f"genotype={searched / 'genotype.json'}", f"data.root={root}", "n_random=1", "run_dir=run")
    outcome = enas("train", *given)
    assert (outcome.code, outcome.err) == (0, "")
    [title, found, random, last] = outcome.out.splitlines()
    assert title.split() == ["network", "parameters", "test", "perplexity", "test", "loss"]
    assert (found.split()[0], random.split()[0]) == ("found", "random_1")
    assert last.startswith("text, 270 test words; written to ")
    folder, data = outcome.folder / "run", text(root)
    assert read(folder / "vocabulary.json") == list(data.classes)
    result = read(folder / "result.json")
    child = load_child(folder / "best.pt", torch.device("cpu"))
    test = data.test[: len(data.test) // 4 * 4].view(4, -1)
    assert evaluate(child, test, 35)["perplexity"] == result["test"]["perplexity"]
    assert result["test"]["words"] == test.numel() - 4


def test_a_longer_run_is_the_shorter_one_gone_on_with(enas: Call, root: Path) -> None:
    for epochs, name in ((3, "whole"), (2, "short")):
        outcome = enas("search", *SEARCH, f"data.root={root}", f"epochs={epochs}", f"run_dir={name}")
        assert (outcome.code, outcome.err) == (0, "")
        assert "recurrent cell:\n  node0 = tanh(input)\n" in outcome.out
        assert "80/perplexity on validation words, with shared weights:" in outcome.out
        assert "(140 words); best of 2 estimated again" in outcome.out
    outcome = enas("search", "resume=short", "epochs=3", "progress=false")
    assert (outcome.code, outcome.err) == (0, "")
    whole, gone_on = (outcome.folder / name for name in ("whole", "short"))
    assert (gone_on / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read(gone_on / "genotype.json")["choices"] == read(whole / "genotype.json")["choices"]


def test_scores_of_a_text_search_are_ranked(searched: Path, root: Path, enas: Call) -> None:
    given = (*TRAIN, "estimator=language", "objective=perplexity", "epochs=1", f"search={searched}", "n=3")
    outcome = enas("rank", *given, f"data.root={root}", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Kendall tau" in outcome.out
    assert len(read(outcome.folder / "run" / "run.json")["children"]) == 3


@pytest.mark.parametrize(
    ("verb", "given", "said"),
    [
        ("search", "space=enas_rnn data=digits", "space=enas_rnn reads text and the digits data is images"),
        ("search", "space=enas_micro space.nodes=2", "space=enas_micro reads images and the text data is text"),
        ("search", "train=shared train.children=1", "take train=language"),
        ("search", "estimator=shared", "take estimator=language"),
        ("search", "objective=accuracy", "objective=accuracy: on text allowed are perplexity and loss"),
        ("search", "train.steps=0", "train.steps=0: allowed is 1 or more"),
        ("search", "precision=bf16", "precision=bf16: text has no images to store so"),
        ("search", "data.words=2", "data.words=2: allowed is 3 or more"),
        ("search", "data.root=nowhere", "needed is one file train.txt or NAME.train.txt, there is none"),
        ("search", "train=language_final", "train=language_final: not for enas-search, which takes language, shared"),
        (
            "train",
            "train=final train.auxiliary=0.4",
            "its network has no auxiliary head; train it with train=language_final",
        ),
        ("train", "train=final", "take train=language (language_final in enas-train)"),
    ],
)
def test_a_mistake_is_one_line(verb: str, given: str, said: str, searched: Path, root: Path, enas: Call) -> None:
    changed = {item.partition("=")[0] for item in given.split()}
    own = SEARCH if verb == "search" else (*TRAIN, f"genotype={searched / 'genotype.json'}")
    if changed & {"train", "estimator", "space"}:  # their keys go with them
        own = tuple(key for key in own if not any(key.startswith(f"{name}.") for name in changed))
    keys = [key for key in (*own, f"data.root={root}", "run_dir=run") if key.partition("=")[0] not in changed]
    if "data=digits" in given:
        keys = [key for key in keys if not key.startswith("data.")]
    outcome = enas(verb, *keys, *given.split())
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert not (outcome.folder / "run").exists()
