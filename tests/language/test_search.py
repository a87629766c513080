"""The outer loop on text: one whose weights are lost goes on, one that is stopped anywhere is the same search."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from conformance import TEXT_SCALE, generator, toy_text
from enas.estimator import Language
from enas.language import LanguageTraining
from enas.plan import Limits, Plan
from enas.randomness import Randomness
from enas.record import Record, load_checkpoint
from enas.report import SearchReport
from enas.search import Search
from enas.space import EnasRnn
from enas.strategy import Reinforce
from enas.supernet import Supernet

SPACE = EnasRnn(2)
STEPS = 5  # of an epoch: three of the weights and two updates


@pytest.fixture(autouse=True)
def _no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_graph", "save_svg", "plot_comparison"):
        monkeypatch.setattr(f"enas.report.{name}", lambda *arguments: None)
    monkeypatch.setattr(Record, "figure", lambda *arguments: None)


def build(record: Record, seed: int = 0) -> Search:
    randomness = Randomness(seed, Search.PURPOSES, torch.device("cpu"))
    supernet = Supernet(SPACE, TEXT_SCALE, generator(seed))
    training = LanguageTraining(supernet, toy_text(), randomness, batch_size=4, length=6, steps=3)
    strategy = Reinforce(SPACE, hidden=4, seed=seed)
    estimator = Language(supernet, toy_text(), batch_size=4, length=6)
    report = SearchReport(record, SPACE, TEXT_SCALE, {}, estimator.label, unit="words")
    plan = Plan(3, updates=2, samples=2, candidates=3, rescored=2, watched=2, log_every=2)
    return Search(SPACE, strategy, estimator, training, randomness, plan, Limits(TEXT_SCALE), report, progress=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run(folder: Path, stop: int | None = None, lose: int | None = None) -> Search:
    """A search that is stopped after `stop` steps, whose weights are lost after `lose` steps."""
    count = 0
    with Record.create(folder) as record:
        search = build(record)

        def after_step() -> None:
            nonlocal count
            count += 1
            if count == lose:
                with torch.no_grad():
                    search.training.supernet.network.bias.fill_(float("nan"))
            if count == stop:
                signal.raise_signal(signal.SIGINT)

        search.run(after_step)
    return search


def test_a_search_whose_weights_are_lost_goes_on(tmp_path: Path) -> None:
    """They are lost in the second epoch, in which one entry of the log is void, and nothing after it."""
    search = run(tmp_path / "run", lose=STEPS + 1)
    log = [line for line in lines(tmp_path / "run") if "weights/loss" in line]
    assert [line["step"] for line in log] == [2, 3, 5, 6, 8, 9]
    assert [line["weights/recoveries"] for line in log] == [0, 0, 1, 1, 1, 1]
    assert [line["weights/loss"] is None for line in log] == [False, False, True, False, False, False]
    rewards = [line["search/reward"] for line in log if "search/reward" in line]
    assert len(rewards) == 3
    assert all(reward > 1 for reward in rewards)
    assert all(torch.isfinite(own).all() for own in search.training.supernet.parameters())


@pytest.mark.parametrize("lose", [None, 6])
def test_stopping_anywhere_changes_nothing(tmp_path: Path, lose: int | None) -> None:
    """Also where weights were lost before it was stopped."""
    run(tmp_path / "whole", lose=lose)
    for stop in (2, 4, 8, 9) if lose is None else (8, 12):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, stop=stop, lose=lose)
        state = load_checkpoint(folder / "checkpoint.pt")
        with Record.reopen(folder, state["next_step"], state["metrics_lines"]) as record:
            search = build(record, seed=9)
            search.load_state_dict(state)
            search.randomness.seed = 0  # what is drawn once, for the watched rows and the end, follows from the seed
            search.run()
        assert lines(folder) == lines(tmp_path / "whole")
