"""What a search says of itself: the comparison with chance, in numbers and words, and everything it leaves behind."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conformance import generator
from enas.architecture import Estimates
from enas.comparison import Comparison, Contender
from enas.record import Record
from enas.report import SearchReport
from enas.space import Chain, EnasMicro, Scale, load_genotype
from enas.supernet import Child, load_child

SPACE = EnasMicro(nodes=2)
SCALE = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=3)
ROWS = SPACE.random(8, generator())
CPU = torch.device("cpu")


def estimates(first: int, values: Sequence[float], error: float = 0.0, images: int = 10) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    rows = ROWS[first : first + len(values)]
    metrics = {"accuracy": value, "loss": 1 - value}
    return Estimates(rows, value, torch.full_like(value, error), metrics, images, step=7)


def comparison(best: float = 0.8, error: float = 0.03) -> Comparison:
    search = Contender(estimates(0, [0.5, 0.7, 0.9, 0.7]), estimates(2, [best, 0.7], error, 40))
    random = Contender(estimates(4, [0.4, 0.6, 0.5, 0.5]), estimates(5, [0.6, 0.5], 0.04, 40))
    return Comparison(search, random)


MANIFEST = {"command": "enas-search", "seed": 3, "date": "today", "versions": {"enas": "1"}, "config": {"a": 1}}


@pytest.fixture
def report(tmp_path: Path) -> Iterator[SearchReport]:
    with Record.create(tmp_path / "run") as record:
        yield SearchReport(record, SPACE, SCALE, MANIFEST, "accuracy", draw_every=2)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def logged(report: SearchReport) -> EventAccumulator:
    report.record.flush()
    sizes = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(report.record.run_dir), size_guidance=sizes).Reload()


def test_a_started_search_is_not_finished(report: SearchReport) -> None:
    report.start()
    assert read(report.record.run_dir / "run.json") == {**MANIFEST, "finished": False}


def finished(report: SearchReport) -> Path:
    found = comparison()
    child = Child(SPACE, found.best.choices[0].tolist(), SCALE, generator(1))
    report.finish(found, child, 12.5, 9)
    return report.record.run_dir


def test_a_finished_search_leaves_everything_behind(report: SearchReport) -> None:
    folder = finished(report)
    found = comparison()
    content = read(folder / "run.json")
    assert content["random_baseline"] == found.random.summary()
    assert content["search"] == found.search.summary()
    assert {key: content[key] for key in found.margins()} == found.margins()
    assert (content["finished"], content["seconds"], content["config"]) == (True, 12.5, {"a": 1})

    genotype, _ = load_genotype(folder / "genotype.json")
    assert list(genotype.architecture.choices) == ROWS[2].tolist()
    assert genotype.cost["scale"] == SCALE.document()
    assert genotype.estimate == {
        "objective": "accuracy", "weights": "shared", "split": "valid", "value": 0.8, "error": 0.03,
        "accuracy": 0.8, "loss": pytest.approx(0.2), "images": 40, "step": 7,
    }  # fmt: skip
    origin = {key: MANIFEST[key] for key in ("command", "seed", "date", "versions")}
    assert genotype.provenance == {**origin, "random_baseline": found.random.summary(), **found.margins()}

    assert load_child(folder / "child.pt", CPU).row == tuple(ROWS[2].tolist())
    board = read(folder / "leaderboard.json")
    assert [(entry["origin"], entry["value"]) for entry in board] == [
        ("search", 0.8), ("search", 0.7), ("random", 0.6), ("random", 0.5)
    ]  # fmt: skip
    assert [entry["choices"] for entry in board] == [ROWS[row].tolist() for row in (2, 3, 5, 6)]


def test_the_best_cells_are_drawn_in_files_and_in_tensorboard(report: SearchReport) -> None:
    folder = finished(report)
    for cell in ("normal", "reduction"):
        drawing = ElementTree.parse(folder / f"cell_{cell}.svg").getroot()
        assert drawing.tag.endswith("svg")
        text = "".join(drawing.itertext())
        assert f"{cell} cell" in text
        assert "accuracy 0.8000 +- 0.0300" in text
    events = logged(report)
    for tag in ("cell/normal", "cell/reduction", "baseline/distribution"):
        [image] = events.Images(tag)
        assert image.step == 9
        assert min(image.width, image.height) > 100


def test_the_comparison_is_in_the_log(report: SearchReport) -> None:
    finished(report)
    events = logged(report)
    found = comparison()
    expected = {f"baseline/{key}": value for key, value in found.margins().items()}
    for name, side in (("search", found.search), ("random", found.random)):
        summary = side.summary()
        expected |= {f"baseline/{name}_{key}": summary[key] for key in ("mean", "std", "best", "rescored_best")}
    written = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert written == pytest.approx(expected, rel=1e-6)
    [text] = events.Tensors("baseline/summary/text_summary")
    assert b"beats its random baseline" in text.tensor_proto.string_val[0]


def test_the_best_so_far_of_a_search_that_was_stopped(report: SearchReport) -> None:
    report.best_so_far(estimates(0, [0.2, 0.6, 0.4]), 5)
    genotype, _ = load_genotype(report.record.run_dir / "genotype.json")
    assert list(genotype.architecture.choices) == ROWS[1].tolist()
    assert genotype.estimate["value"] == 0.6
    assert genotype.provenance["interrupted_at_step"] == 5
    board = read(report.record.run_dir / "leaderboard.json")
    assert [(entry["origin"], entry["value"]) for entry in board] == [("search", 0.6), ("search", 0.4), ("search", 0.2)]


def test_the_log_of_an_epoch(report: SearchReport) -> None:
    told = [{"search/reward": torch.tensor(0.25)}, {"search/reward": torch.tensor(0.75)}]
    rows = torch.stack([ROWS[0], ROWS[0], ROWS[1]])
    report.epoch(1, {"weights/loss": 2.0}, told, estimates(0, [0.5, 1.0]), rows, 11)
    [line] = [json.loads(text) for text in (report.record.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert line["step"] == 11
    assert (line["weights/loss"], line["search/reward"]) == (2.0, 0.5)
    assert (line["search/candidates_mean"], line["search/candidates_best"]) == (0.75, 1.0)
    for cell in ("normal", "reduction"):
        places = [
            place for place, decision in enumerate(SPACE.decisions)
            if decision.kind == "operation" and decision.owner.startswith(cell)
        ]  # fmt: skip
        for number, name in enumerate(SPACE.decisions[places[0]].alternatives):
            share = float((rows[:, places] == number).double().mean())
            assert line[f"policy/{cell}/{name}"] == pytest.approx(share)


def test_shares_of_numbers_say_of_what(tmp_path: Path) -> None:
    space = Chain(2)
    with Record.create(tmp_path / "run") as record:
        report = SearchReport(record, space, SCALE, MANIFEST, "accuracy")
        rows = torch.tensor([[1, 3, 0, 0, 0, 0, 1], [2, 3, 0, 0, 0, 0, 1]])
        report.epoch(1, {}, [], estimates(0, [0.5]), rows, 11)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    shares = {tag: share for tag, share in line.items() if tag.startswith("policy/layer0/") and share}
    assert shares == {
        "policy/layer0/height_3": 0.5,
        "policy/layer0/height_5": 0.5,
        "policy/layer0/width_7": 1.0,
        "policy/layer0/filters_24": 1.0,
    }


def test_an_epoch_without_updates_has_no_reward(report: SearchReport) -> None:
    report.epoch(1, {}, [], estimates(0, [0.5]), ROWS, 11)
    assert "search/reward" not in (report.record.run_dir / "metrics.jsonl").read_text()


def test_a_row_is_drawn_on_the_way(report: SearchReport) -> None:
    for epoch in (1, 2):
        report.epoch(epoch, {}, [], estimates(0, [0.5]), ROWS, 4 * epoch)
    events = logged(report)
    assert [event.step for event in events.Images("cell/normal") + events.Images("cell/reduction")] == [8, 8]
