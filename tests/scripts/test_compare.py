"""enas-compare: jobs, what is gathered from them, settings of one strategy, and mistakes."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from enas.scripts import compare

from .conftest import Call

TINY = ("seeds=3", "updates=6", "samples=2", "threads=null", "run_dir=study")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact table in which the signal counts 3x3 convolutions and the outcome is twice the signal."""
    rows = np.array(list(product(range(5), repeat=6)), dtype=np.uint8)
    signal = 5.0 * (rows == 3).sum(axis=1) + np.arange(len(rows)) / len(rows)
    columns = {}
    for dataset in ("cifar10", "cifar100", "in16"):
        columns |= {f"val12_{dataset}": signal, f"test200_{dataset}": 2 * signal}
    path = tmp_path_factory.mktemp("table") / "made up=1.npz"
    np.savez(path, ops=rows, **columns)
    return path


def tracks(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "tracks.json").read_text())
    return content


def test_strategies_beside_each_other(enas: Call, table: Path) -> None:
    outcome = enas("compare", "strategy=random,reinforce", "jobs=1", f"data.root={table}", *TINY)
    assert outcome.code == 0, outcome.err
    study = outcome.folder / "study"
    assert {path.name for path in study.iterdir()} == {
        "comparison.json", "curves.png", "curves.svg", "multirun.yaml", "part-0_strategy-random",
        "part-0_strategy-reinforce", "table.md",
    }  # fmt: skip
    own = tracks(study / "part-0_strategy-random")
    assert [track["seed"] for track in own["tracks"]] == [0, 1, 2]
    assert own["measure"] == "test accuracy after 200 epochs, CIFAR-10"
    assert own["origin"]["versions"].keys() >= {"enas", "torch"}
    assert "strategy=random" in own["origin"]["command"]
    for track in own["tracks"]:
        assert track["budget"] == 12
        assert track["final"] == track["best"][-1]
        assert track["best"] == sorted(track["best"])  # here the outcome follows the signal
    [content] = json.loads((study / "comparison.json").read_text())
    assert content["measure"] == own["measure"]
    names = {entry["name"]: entry for entry in content["strategies"]}
    assert names.keys() == {"random", "reinforce"}
    assert names["random"]["mean"] == pytest.approx(np.mean([track["final"] for track in own["tracks"]]))
    assert names["random"]["p"] is None
    assert 0 < names["reinforce"]["p"] <= 1
    assert (study / "table.md").read_text() in outcome.out
    assert enas("compare", "strategy=random", "jobs=1", f"data.root={table}", *TINY).code == 2  # never overwritten


def test_processes_share_the_seeds_and_find_the_same(enas: Call, table: Path) -> None:
    together = enas("compare", "jobs=2", f"data.root={table}", *TINY)
    assert together.code == 0, together.err
    study = together.folder / "study"
    halves = [tracks(study / f"part-{part}")["tracks"] for part in (0, 1)]
    assert [[track["seed"] for track in half] for half in halves] == [[0, 2], [1]]
    alone = enas("compare", "jobs=1", "seed=1", f"data.root={table}", *TINY[1:-1], "seeds=1", "run_dir=alone")
    assert alone.code == 0, alone.err
    [same] = tracks(alone.folder / "alone" / "part-0")["tracks"]
    for name in ("seed", "spent", "best", "final"):
        assert same[name] == halves[1][0][name]


def test_each_measure_has_its_own_table_and_curves(enas: Call, table: Path) -> None:
    outcome = enas("compare", "data.dataset=cifar10,in16", "jobs=1", f"data.root={table}", *TINY)
    assert outcome.code == 0, outcome.err
    study = outcome.folder / "study"
    content = json.loads((study / "comparison.json").read_text())
    assert [entry["measure"].rpartition(", ")[2] for entry in content] == ["CIFAR-10", "ImageNet16-120"]
    assert [entry["strategies"][0]["name"] for entry in content] == [
        "random, data.dataset=cifar10", "random, data.dataset=in16",
    ]  # fmt: skip
    assert (study / "curves_1.svg").exists()
    assert (study / "curves_2.svg").exists()
    assert len((study / "table.md").read_text().split("\n\n")) == 2


def test_a_table_judges_what_shared_weights_found_and_nothing_else_compares_them(enas: Call, table: Path) -> None:
    shared = (
        "space=nasbench201", "estimator=shared", "data=digits", "network.layers=1", "network.filters=4", "jobs=1",
        "batch_size=256", "seeds=2", "updates=1", "samples=2", "candidates=3", "rescored=1", "threads=null",
        "settings={reinforce: {estimator: {images: 64}, batch_size: 128}}", "strategy=random,reinforce",
    )  # fmt: skip
    outcome = enas("compare", *shared, f"table={table}", "table_dataset=in16", "run_dir=study")
    assert outcome.code == 0, outcome.err
    [judged] = json.loads((outcome.folder / "study" / "comparison.json").read_text())
    assert judged["measure"] == "test accuracy after 200 epochs, ImageNet16-120"
    assert judged["strategies"][0]["n"] == 2
    assert not (outcome.folder / "study" / "curves.svg").exists()
    outcome = enas("compare", *shared, "run_dir=other")
    assert outcome.code == 0, outcome.err
    [own] = json.loads((outcome.folder / "other" / "comparison.json").read_text())
    assert own["measure"] == "minus loss, each search with weights of its own"
    assert all(entry["p"] is None and entry["margin"] is None for entry in own["strategies"])
    told = enas("compare", *shared, "space=enas_micro", f"table={table}", "run_dir=third")
    assert (told.code, "knows rows of space=nasbench201 alone" in told.err) == (2, True)


def test_the_configuration_can_be_shown(enas: Call, table: Path) -> None:
    outcome = enas("compare", "--cfg", "job", f"data.root={table}")
    assert outcome.code == 0, outcome.err
    assert "seeds: 50" in outcome.out


def test_no_process_is_without_a_seed(enas: Call, table: Path) -> None:
    outcome = enas("compare", "jobs=1", f"data.root={table}", *TINY[1:], "seeds=1")
    assert outcome.code == 0, outcome.err
    config = OmegaConf.create({"seeds": 2, "jobs": 5})
    assert compare.parts(config) == 2


def test_settings_are_for_one_strategy_and_other_keys_make_variants(enas: Call, table: Path) -> None:
    outcome = enas(
        "compare", "strategy=random,reinforce", "samples=1,2", "jobs=1",
        "settings={reinforce: {strategy: {learning_rate: 0.5}}}",
        f"data.root={table}", "seeds=1", "updates=2", "threads=null", "run_dir=study",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    [content] = json.loads((outcome.folder / "study" / "comparison.json").read_text())
    assert {entry["name"] for entry in content["strategies"]} == {
        f"{strategy}, samples={count}" for strategy in ("random", "reinforce") for count in (1, 2)
    }


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seeds=0", "seeds=0: allowed is 1 or more"),
        ("jobs=0", "jobs=0: allowed is 1 or more"),
        ("settings={random: {strategy: {hidden: 3}}}", "strategy.hidden: enas.strategy.Random has no key hidden"),
        ("settings={random: {epochz: 3}}", "settings.random.epochz: no key that may differ; did you mean epochs?"),
        ("settings={random: {jobs: 3}}", "settings.random.jobs: no key that may differ"),
        ("settings={random: {data: {dataset: in16}}}", "settings.random.data: no key that may differ"),
        ("settings={rondom: {epochs: 3}}", "settings.rondom: there is no such strategy; did you mean random?"),
        ("settings={random: 3}", "settings.random=3: has to be a mapping"),
        ("settings={random: {epochs: many}}", "many"),
        ("seeds=1,2", "seeds: takes one value, for all searches"),
        ("strategy=random,darts", "Darts learns with the shared weights that it mixes; take estimator=shared"),
        ("strategy=random,successive_halving", "the estimates of Table cannot be divided"),
        ("table=t.npz", "the nasbench201-cifar10 data is a table itself, which judges"),
        ("data.dataset=mnist", "data.dataset=mnist: has to be one of cifar10, cifar100, in16"),
        ("space=enas_micro", "space=enas_micro: the table nasbench201-cifar10 knows rows of space=nasbench201 alone"),
    ],
)
def test_a_mistake_is_one_sentence(enas: Call, table: Path, override: str, told: str) -> None:
    outcome = enas("compare", "jobs=1", f"data.root={table}", *TINY, override)
    assert outcome.code == 2
    assert told in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert outcome.written == []
