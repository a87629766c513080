"""debug=profile: a trace with the parts of a step, and where in a run it is taken."""

import gzip
import json

import pytest

from enas.scripts.profiling import window

from .conftest import Call

COMMON = ("threads=1", "progress=false", "device=cpu", "batch_size=256", "profile=1")
SIZE = ("network.layers=1", "network.filters=4", "space.nodes=1")
SHORT = ("updates=2", "samples=2", "candidates=3", "rescored=2", "watched=2")


@pytest.mark.parametrize(
    ("asked", "steps", "epochs", "expected"),
    [
        (2, 27, 2, (25, 4)),
        (2, 27, 1, (23, 4)),  # with one epoch only its last steps are there
        (5, 3, 2, (1, 5)),
        (5, 1, 1, (1, 1)),  # which the run does not reach
    ],
)
def test_the_recording_lies_around_the_end_of_an_epoch(
    asked: int, steps: int, epochs: int, expected: tuple[int, int]
) -> None:
    assert window(asked, steps, epochs) == expected


def test_a_search_is_recorded_while_it_trains_and_scores(enas: Call) -> None:
    outcome = enas("search", "debug=profile", *COMMON, *SIZE, *SHORT, "run_dir=run")
    assert outcome.code == 0
    events = json.loads(gzip.decompress((outcome.folder / "run" / "trace.json.gz").read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("ph") == "X"]
    assert {"data", "forward", "backward", "update", "scoring", "strategy"} <= set(names)
    assert (names.count("forward"), names.count("update")) == (1, 1)
    table = (outcome.folder / "run" / "profile.txt").read_text()
    assert table in outcome.out
    assert [line.split()[1] for line in table.splitlines() if line.startswith("update ")] == ["1"]


def test_a_training_is_recorded_while_it_trains_and_validates(enas: Call) -> None:
    assert enas("search", *COMMON[:-1], *SIZE, *SHORT, "epochs=1", "run_dir=found").code == 0
    outcome = enas("train", "genotype=found/genotype.json", "debug=profile", *COMMON, "run_dir=run")
    assert outcome.code == 0
    events = json.loads(gzip.decompress((outcome.folder / "run" / "trace.json.gz").read_bytes()))["traceEvents"]
    differentiated = "aten::_log_softmax_backward_data"  # while it trains only
    assert {"validation", differentiated} <= {event["name"] for event in events}


def test_a_resumed_run_is_not_recorded(enas: Call) -> None:
    run = ("search", *COMMON, *SIZE, *SHORT, "epochs=1", "run_dir=run")
    assert enas(*run).code == 0
    (trace := enas("search", "--help").folder / "run" / "trace.json.gz").unlink()
    assert enas("search", "resume=run", "epochs=2").code == 0
    assert not trace.exists()


@pytest.mark.parametrize("verb", ["search", "train"])
def test_a_number_below_one_is_refused(enas: Call, verb: str) -> None:
    own = []
    if verb == "train":
        assert enas("search", *COMMON[:-1], *SIZE, *SHORT, "epochs=1", "run_dir=found").code == 0
        own = ["genotype=found/genotype.json"]
    outcome = enas(verb, *COMMON[:-1], "profile=0", *own, "run_dir=run")
    assert outcome.code == 2
    assert "profile=0: allowed is 1 or more, or null for none" in outcome.err
    assert not (outcome.folder / "run").exists()
