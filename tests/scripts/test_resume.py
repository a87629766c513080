"""`resume=DIR`: the saved configuration comes back; any but the permitted changes are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Call


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]


@pytest.fixture
def run(greet: Call, tmp_path: Path) -> Path:
    """A run with settings of its own, in a folder with an awkward name."""
    folder = tmp_path / "ein Lauf=ü,1"
    given = ("experiment=high", "voice.notes=[1,2]", "voice.root=data", "rate=0.25", "epochs=4")
    assert greet(*given, f"run_dir={folder}").code == 0
    return folder


def test_the_saved_configuration_comes_back(greet: Call, run: Path) -> None:
    before = config(run)
    assert greet(f"resume={run}").err == ""
    assert config(run) == before | {"resume": str(run)}


def test_twice_and_from_another_directory(
    greet: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = config(run)
    for path in ("../ein Lauf=ü,1", str(run)):
        assert greet(f"resume={path}").err == ""
    assert config(run) == before | {"resume": str(run)}
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("order", [1, -1])
def test_permitted_changes_count_on_either_side_of_resume(greet: Call, run: Path, order: int) -> None:
    assert greet(*[f"resume={run}", "epochs=9", "device=cuda"][::order]).err == ""
    assert (config(run)["epochs"], config(run)["device"]) == (9, "cuda")


def test_a_raise_is_kept_at_the_next_resume(greet: Call, run: Path) -> None:
    greet(f"resume={run}", "epochs=9")
    assert greet(f"resume={run}").err == ""
    assert config(run)["epochs"] == 9


@pytest.mark.parametrize(
    ("change", "beginning"),
    [
        ("seed=1", "seed: 1 here and 0 in "),
        ("rate=0.5", "rate: 0.5 here and 0.25 in "),
        ("voice.pitch=2", "voice.pitch: 2 here and 9.0 in "),
        ("voice.notes=[1]", "voice.notes: [1] here and [1, 2] in "),
        ("voice.root=other", "voice.root: "),
        ("experiment=quick", "voice.pitch: 1.0 here and 9.0 in "),
        ("epochs=3", "epochs=3: a resumed run may only raise epochs, which is 4 in "),
        ("epochs=many", "epochs=many: Value 'many' of type 'str' could not be converted"),
        ("run_dir=other", "run_dir: a resumed run stays in its own folder; give resume=DIR alone"),
    ],
)
def test_any_other_change_is_refused_by_name(greet: Call, run: Path, change: str, beginning: str) -> None:
    before = (run / "run.json").read_bytes()
    outcome = greet(f"resume={run}", change)
    assert outcome.code == 2
    assert outcome.err.startswith(f"enas-greet: {beginning}")
    assert outcome.err.count("\n") == 1
    assert outcome.written == [run.name, f"{run.name}/run.json"]
    assert (run / "run.json").read_bytes() == before


def test_another_choice_of_a_group_is_named_as_the_group(greet: Call, tmp_path: Path) -> None:
    assert greet("run_dir=plain").code == 0
    outcome = greet("resume=plain", "voice=loud")
    assert outcome.err.startswith("enas-greet: voice: greet.Loud here and greet.Soft in ")
    assert "a resumed run may change only device, epochs (only more)" in outcome.err


def damage(run: Path, **changes: Any) -> None:
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(content | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"overrides": "seed=1"}, "its run.json is damaged"),
        ({"overrides": [1]}, "its run.json is damaged"),
        ({"config": None}, "its run.json is damaged"),
        ({"overrides": ["voice._target_=os.system"]}, "its run.json holds voice._target_=os.system"),
        ({"overrides": ["hydra.searchpath=[file:///x]"]}, "its run.json holds hydra.searchpath"),
        ({"overrides": ["+x=1"]}, "its run.json holds +x=1"),
        ({"overrides": ["--multirun"]}, "its run.json holds --multirun"),
        ({"config": {"seed": 0}}, "the folder holds no run of this version of enas-greet"),
    ],
)
def test_a_damaged_or_foreign_run_is_refused(greet: Call, run: Path, changes: dict[str, Any], reason: str) -> None:
    damage(run, **changes)
    outcome = greet(f"resume={run}")
    assert outcome.code == 2
    assert outcome.err.startswith(f"enas-greet: resume={run}: {reason}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\udcff"])
def test_a_truncated_run_is_refused(greet: Call, run: Path, text: str) -> None:
    (run / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    outcome = greet(f"resume={run}")
    assert outcome.code == 2
    assert "its run.json is damaged" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_folder_without_a_run_is_refused(greet: Call, tmp_path: Path) -> None:
    outcome = greet("resume=nowhere")
    assert outcome.code == 2
    assert "there is no run to resume in this folder (no run.json)" in outcome.err
    assert outcome.written == []


def test_null_is_no_resume(greet: Call) -> None:
    assert greet("resume=null", "run_dir=here").code == 0
