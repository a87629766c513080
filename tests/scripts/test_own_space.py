"""`space_file=FILE`: searched, trained, ranked and resumed, and never run because another file names it."""

import json
import shutil
from pathlib import Path

import pytest

from enas.space import SPACES

from .conftest import Call

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "blocks.py"
QUICK = ("threads=1", "progress=false", "network.layers=1", "network.filters=8")
SEARCH = (*QUICK, "epochs=2", "updates=1", "samples=2", "candidates=3", "rescored=2", "watched=2", "strategy.hidden=8")


@pytest.fixture
def space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the documented example, in a folder with an awkward name, known during the test alone."""
    monkeypatch.setattr("enas.space.SPACES", dict(SPACES))
    folder = tmp_path / "my spaces, of=mine"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "my_blocks.py")
    return f"space_file={folder / 'my_blocks.py'}"


def test_one_file_is_searched_trained_ranked_and_resumed(
    enas: Call, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = enas("search", space_file, "space.blocks=3", *SEARCH, "run_dir=run")
    assert (found.code, found.err) == (0, "")
    genotype = json.loads((found.folder / "run" / "genotype.json").read_text())
    assert genotype["space"] == {"name": "blocks", "blocks": 3}
    assert "my_blocks.py" in found.out  # the command that trains it
    trained = enas("train", "genotype=run/genotype.json", space_file, "threads=1", "progress=false", "epochs=1")
    assert (trained.code, trained.err) == (0, "")
    ranked = enas("rank", "search=run", space_file, "threads=1", "progress=false", "epochs=1", "n=3", "run_dir=ranked")
    assert (ranked.code, ranked.err) == (0, "")
    resumed = enas("search", "resume=run", "epochs=3", space_file)
    assert (resumed.code, resumed.err) == (0, "")
    assert json.loads((found.folder / "run" / "run.json").read_text())["config"]["epochs"] == 3


def test_nothing_is_run_because_a_saved_file_names_it(
    enas: Call, space_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enas("search", space_file, *SEARCH, "epochs=1", "run_dir=run").code == 0
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    overrides = [item for item in run["overrides"] if "space" not in item]
    for content in (
        {**run, "config": {**run["config"], "space_file": str(evil)}},
        {**run, "overrides": [f"space_file='{evil}'", *overrides], "config": {**run["config"], "space_file": None}},
    ):
        (tmp_path / "run" / "run.json").write_text(json.dumps(content))
        outcome = enas("search", "resume=run", "epochs=2")
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    outcome = enas("search", "resume=run", "epochs=2")
    assert outcome.err.endswith(f"its space is one of your own; name its file again, {space_file}\n")
    monkeypatch.setattr("enas.space.SPACES", {name: space for name, space in SPACES.items() if name != "blocks"})
    outcome = enas("train", "genotype=run/genotype.json")
    assert outcome.code == 2
    assert "space 'blocks' is unknown" in outcome.err
    assert not (tmp_path / "ran").exists()


def test_the_help_lists_it_with_its_keys(enas: Call, space_file: str) -> None:
    text = enas("search", space_file, "--help").out
    assert "(now blocks)" in text
    assert "space.blocks=4" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["space.blocks=9"], "space.blocks=9: allowed are 1 to 8"),
        (["space.blocks=many"], "space.blocks=many: has to be a whole number"),
        (["space.block=2"], "space has no key block; did you mean blocks?"),
        (["space=enas_micro", "space.blocks=2"], "space has no key blocks"),
    ],
)
def test_its_keys_are_checked(enas: Call, space_file: str, given: list[str], said: str) -> None:
    outcome = enas("search", space_file, *given, *SEARCH, "run_dir=run")
    assert outcome.code == 2
    assert said in outcome.err
    assert not (outcome.folder / "run").exists()


def test_a_missing_file_is_told(enas: Call) -> None:
    outcome = enas("search", "space_file=none.py")
    assert outcome.code == 2
    assert outcome.err == f"enas-search: space_file={outcome.folder / 'none.py'}: no such file\n"
