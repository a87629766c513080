"""Search and training in one call each: the three lines of the README."""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import enas
from conformance import toy_data, toy_table, toy_text
from enas.api import BOUND
from enas.data import Augmentation, DataSet
from enas.estimator import Shared
from enas.final import FinalTraining
from enas.schedule import Cosine
from enas.scripts import search, train
from enas.space import EnasMacro, NasBench201, Scale
from enas.strategy import Evolution, PcDarts, Random, SuccessiveHalving
from enas.train import SharedTraining

SCALE = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=3)
DATA = toy_data(90, SCALE, Augmentation())


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def find(run_dir: Path, epochs: int = 1, **settings: Any) -> Any:
    given = {"space": enas.EnasMicro(1), "layers": 1, "filters": 4, "batch_size": 16, "progress": False} | settings
    return enas.find(DATA, run_dir, epochs, **given)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "search"
    comparison = find(folder)
    assert len(comparison.search.sampled) == len(comparison.random.sampled) == 50
    return folder


def test_a_search_writes_a_whole_run_directory(found: Path) -> None:
    names = {path.name for path in found.iterdir() if "tfevents" not in path.name}
    assert names == {
        "cell_normal.svg", "cell_reduction.svg", "checkpoint.pt", "child.pt", "genotype.json", "leaderboard.json",
        "metrics.jsonl", "run.json", "timings.jsonl",
    }  # fmt: skip
    content = json.loads((found / "run.json").read_text())
    assert content["finished"]
    assert content["random_baseline"]["candidates"] == 50


def test_without_a_number_there_are_as_many_layers_as_the_space_has(tmp_path: Path) -> None:
    find(tmp_path / "run", space=EnasMacro(2), layers=None)
    document = json.loads((tmp_path / "run" / "genotype.json").read_text())
    assert document["cost"]["scale"]["layers"] == document["space"]["layers"] == 2


def test_what_was_found_is_trained(found: Path, tmp_path: Path) -> None:
    network, result = enas.fit(
        found / "genotype.json", DATA, tmp_path / "final", 1, batch_size=16, progress=False, auxiliary=0.4
    )
    assert (network.scale.layers, network.scale.filters) == (1, 4)
    assert list(network.row) == json.loads((found / "genotype.json").read_text())["choices"]
    assert 0 <= result["test"]["accuracy"] <= 1
    assert result["test"]["images"] == len(DATA.test)
    larger, _ = enas.fit(
        found / "genotype.json", DATA, tmp_path / "larger", 1, layers=2, filters=6, batch_size=16, progress=False
    )
    assert (larger.scale.layers, larger.scale.filters) == (2, 6)


def test_the_same_seed_gives_the_same_run(found: Path, tmp_path: Path) -> None:
    find(tmp_path / "again")
    assert (found / "metrics.jsonl").read_bytes() == (tmp_path / "again" / "metrics.jsonl").read_bytes()


def test_another_strategy_is_taken(tmp_path: Path) -> None:
    space = enas.EnasMicro(1)
    find(tmp_path / "random", space=space, strategy=Random(space), seed=3)
    assert "strategy/loss" not in (tmp_path / "random" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"batch_size": 1}, {"filters": 0}])
def test_a_wrong_search_leaves_nothing_behind(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(enas.UserError, match="allowed is"):
        find(tmp_path / "run", **setting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"batch_size": 1}, {"filters": 0}, {"layers": 0}, {"dropout": 2}])
def test_a_wrong_training_leaves_nothing_behind(found: Path, tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(enas.UserError, match="allowed is"):
        enas.fit(found / "genotype.json", DATA, tmp_path / "run", **setting)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused(found: Path) -> None:
    before = (found / "run.json").read_bytes()
    for again in (lambda: find(found), lambda: enas.fit(found / "genotype.json", DATA, found, progress=False)):
        with pytest.raises(enas.UserError, match="never overwritten"):
            again()
    assert (found / "run.json").read_bytes() == before


CONF = Path(__file__).parent.parent / "conf"


def defaults(call: Callable[..., Any]) -> dict[str, Any]:
    return {key: entry.default for key, entry in inspect.signature(call).parameters.items()}


def test_what_the_commands_do_by_default() -> None:
    """The defaults of the Python API and of the commands are the same."""
    strategy = OmegaConf.load(CONF / "strategy" / "reinforce.yaml")
    assert strategy.bound == BOUND
    rates = {"shared": Cosine(0.05, 0.0005, period=10), "final": Cosine()}
    for name, own in (("shared", defaults(SharedTraining)), ("final", defaults(FinalTraining) | defaults(enas.fit))):
        configured = OmegaConf.load(CONF / "train" / f"{name}.yaml")
        for key in configured.keys() - {"_target_", "rate"}:
            assert own[key] == configured[key], f"{name}.{key}"
        rate = {key: value for key, value in configured.rate.items() if key != "_target_"}
        assert vars(rates[name]) == rate, name
    estimator = OmegaConf.load(CONF / "estimator" / "shared.yaml")
    for key in ("children", "statistics"):
        assert defaults(Shared)[key] == estimator[key]
    for verb, call in ((search, enas.find), (train, enas.fit)):
        keys = vars(verb.Keys())
        for key, value in defaults(call).items():
            if key in ("epochs", "batch_size", "seed"):
                assert keys[key] == value, key
    size = vars(search.Keys().network)
    assert size == {key: value for key, value in defaults(enas.find).items() if key in size}


def test_the_package_gives_data_sets(tmp_path: Path) -> None:
    digits = enas.data.digits()
    assert isinstance(digits, DataSet)
    assert torch.equal(digits.train.labels.unique(), torch.arange(10))


def test_a_text_is_searched_and_learnt_with_the_same_two_calls(tmp_path: Path) -> None:
    comparison = enas.find(toy_text(), tmp_path / "search", 1, filters=4, batch_size=16, progress=False)
    assert comparison.best.metrics["perplexity"] > 1
    genotype = tmp_path / "search" / "genotype.json"
    child, result = enas.fit(
        genotype, toy_text(), tmp_path / "final", 1, batch_size=16, progress=False, patience=None, scored=4
    )
    assert child.scale == Scale(1, 4, 1, 1, 1, 6)
    assert result["test"]["words"] == 96
    for folder in ("search", "final"):
        assert json.loads((tmp_path / folder / "vocabulary.json").read_text()) == list(toy_text().classes)


def test_a_table_is_searched(tmp_path: Path) -> None:
    space = NasBench201()
    strategy = Evolution(space, population=5, sample=2)
    found = enas.find(toy_table(), tmp_path / "run", 2, space=space, strategy=strategy, progress=False)
    assert len(found.search.sampled) == len(found.random.sampled) == 2 * 10 * 10
    assert list(found.outcome) == [toy_table().outcome_label]
    assert not (tmp_path / "run" / "child.pt").exists()


def test_a_relaxation_trains_the_weights_that_it_mixes(tmp_path: Path) -> None:
    space = NasBench201()
    given = {"space": space, "strategy": PcDarts(space, channels=2, frozen=0.0), "filters": 4}
    found = find(tmp_path / "run", **given)
    assert len(found.search.sampled.choices.unique(dim=0)) == 1  # the published derivation gives one row
    content = json.loads((tmp_path / "run" / "genotype.json").read_text())
    assert content["cost"]["scale"]["partial"] == 2
    assert "strategy/entropy" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(enas.UserError, match="cannot be divided"):
        find(tmp_path / "run", space=NasBench201(), strategy=SuccessiveHalving(NasBench201()))
    assert not (tmp_path / "run").exists()
