"""The Hydra edge through a small command of its own: what the task gets, and how every mistake is told."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import APP, Call


def saved(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """The command as a process of its own, in a session of its own (so that a group can be interrupted)."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "greet", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(APP)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_task_gets_typed_values_and_absolute_paths(greet: Call) -> None:
    outcome = greet("run_dir=here", "epochs=7", "rate=2", "voice=loud", "ending=well")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert saved(outcome.folder / "here")["config"] == {
        "voice": {"_target_": "greet.Loud", "pitch": 1.0, "volume": 5},
        "seed": 0,
        "epochs": 7,
        "rate": 2.0,
        "ending": "well",
        "device": "auto",
        "run_dir": str(outcome.folder / "here"),
        "resume": None,
    }


def test_a_single_run_writes_nothing_but_its_run_directory(greet: Call) -> None:
    assert greet("run_dir=here").written == ["here", "here/run.json"]


def test_a_default_with_an_interpolation_is_resolved(greet: Call) -> None:
    outcome = greet()
    [run] = (outcome.folder / "runs").iterdir()
    assert saved(run)["config"]["run_dir"] == str(run)


@pytest.mark.parametrize(
    "name",
    [
        "a blank",
        "été-日本",
        "a=b",
        "a,b",
        "a(b)[c]{d}",
        "quote'd",
        'double"d',
        "back\\slash\\",
        "a:b#c@d+e",
    ],
)
def test_any_character_may_stand_in_a_path(greet: Call, name: str) -> None:
    outcome = greet(f"run_dir={name}", f"voice.root={name}")
    assert outcome.err == ""
    config = saved(outcome.folder / name)["config"]
    assert config["run_dir"] == config["voice"]["root"] == str(outcome.folder / name)


def test_the_home_folder_is_expanded(greet: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    outcome = greet("run_dir=~/run", "voice.root=~/data")
    assert saved(tmp_path / "home" / "run")["config"]["voice"]["root"] == str(tmp_path / "home" / "data")
    assert outcome.code == 0


def test_a_path_may_hold_an_interpolation(greet: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    outcome = greet("run_dir=run-${seed}", "voice.root=${oc.env:DATA}/images")
    assert outcome.err == ""
    assert saved(tmp_path / "run-0")["config"]["voice"]["root"] == str(tmp_path / "data" / "images")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["epochz=3"], "epochz: enas-greet has no such key or group; did you mean epochs?"),
        (["voice.pich=2"], "voice.pich: voice has no key pich; did you mean pitch?"),
        (["voice=laud"], "voice=laud: there is no such choice; did you mean loud?"),
        (["voice=xyz"], "voice=xyz: there is no such choice; there are broken, distant, loud, soft"),
        (["voice=3"], "voice=3: a group's choice is a name; --help lists them"),
        (["epochs=abc"], "epochs=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        (["epochs=1.5"], "epochs=1.5: Value '1.5' of type 'float' could not be converted to Integer"),
        (
            ["ending=foo"],
            "ending=foo: Invalid value 'foo', expected one of [well, mistake, defect, misuse, wait]",
        ),
        (["+foo=1"], "+foo=1: keys are neither added nor removed; write KEY=VALUE with a key of --help"),
        (
            ["++epochs=1"],
            "++epochs=1: keys are neither added nor removed; write KEY=VALUE with a key of --help",
        ),
        (["~voice"], "~voice: keys are neither added nor removed; write KEY=VALUE with a key of --help"),
        (["epochs"], "epochs: an argument has the form KEY=VALUE; --help lists the keys"),
        (["run_dir="], "run_dir=: a path has to follow the equals sign"),
        (["seed=0,1"], "seed=0,1: several values for one key need -m (a run for each value)"),
        (
            ["voice._target_=os.system"],
            "voice._target_=os.system: a constructor is chosen by its group, as in",
        ),
        (
            ["voice={_target_: os.system}"],
            "voice={_target_: os.system}: a constructor is chosen by its group",
        ),
        (["device=é"], "device=é: cannot be read; blanks and special characters need quotes within quotes"),
        (["voice.pitch=high"], "voice.pitch=high: has to be a number"),
        (["voice.language=de"], "voice.language=de: has to be one of en, fr"),
        (["voice=loud", "voice.volume=11"], "voice.volume=11: at most 10"),
        (["voice=distant"], "voice.root: has to be given, as in voice.root=PATH"),
        (["voice=broken"], "voice: there is no constructor greet.Missing"),
        (["device=${nothing}"], "device: Interpolation key 'nothing' not found"),
        (["experiment=foreign"], "experiment/foreign.yaml: train_epochs: Key 'train_epochs' not in 'Keys'"),
        (["ending=mistake"], "something: is not right"),
        (["--frob"], "unrecognized arguments: --frob; --help lists what can be given"),
        (["--config-name=other"], "unrecognized arguments: --config-name=other"),
        (["--resolve"], "--resolve belongs to --cfg job"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
        (["hydra/launcher=rocket"], "hydra/launcher=rocket: there is no such choice; there are basic"),
        (["-m", "seed=0,1", "epochs=1,many"], "epochs=many: Value 'many' of type 'str' could not"),
        (["-m", "seed=interval(0,1)"], "BasicSweeper does not support sweep type : INTERVAL_SWEEP"),
        (["-m", "resume=here"], "resume: one run is resumed at a time, without -m"),
        (["-m", "seed=0,1", "ending=mistake", "run_dir=here"], "something: is not right"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_and_leaves_nothing(greet: Call, arguments: list[str], sentence: str) -> None:
    outcome = greet(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"enas-greet: {sentence}")
    assert outcome.err.count("\n") == 1
    assert outcome.written == []


@pytest.mark.parametrize(("ending", "error"), [("defect", KeyError), ("misuse", RuntimeError)])
def test_a_defect_keeps_its_trace(greet: Call, ending: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        greet(f"ending={ending}")


def test_a_sweep_names_its_folders_by_what_varies(greet: Call) -> None:
    outcome = greet("-m", "seed=0,1", "epochs=5", "voice=soft,loud", "run_dir=a b")
    assert outcome.err == ""
    folders = sorted(path.name for path in (outcome.folder / "a b").iterdir() if path.is_dir())
    assert folders == ["seed-0_voice-loud", "seed-0_voice-soft", "seed-1_voice-loud", "seed-1_voice-soft"]
    config = saved(outcome.folder / "a b" / "seed-1_voice-loud")["config"]
    assert (config["seed"], config["voice"]["_target_"], config["epochs"]) == (1, "greet.Loud", 5)
    assert config["run_dir"] == str(outcome.folder / "a b" / "seed-1_voice-loud")


def test_a_sweep_of_one_is_numbered(greet: Call) -> None:
    assert "runs/0/run.json" in greet("-m", "run_dir=runs").written


def test_a_sweep_may_go_over_paths(greet: Call, tmp_path: Path) -> None:
    outcome = greet("-m", "voice.root=choice('x','y')", "run_dir=runs")
    assert outcome.err == ""
    roots = {saved(path.parent)["config"]["voice"]["root"] for path in tmp_path.rglob("run.json")}
    assert roots == {str(tmp_path / "x"), str(tmp_path / "y")}


def test_the_configuration_can_be_shown(greet: Call) -> None:
    outcome = greet("--cfg", "job", "epochs=9")
    assert outcome.code == 0
    assert "epochs: 9\n" in outcome.out
    assert outcome.written == []


def test_own_recipes_come_from_a_config_dir(greet: Call, tmp_path: Path) -> None:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nepochs: 42\n")
    outcome = greet("--config-dir", "my conf", "experiment=mine", "run_dir=here")
    assert outcome.err == ""
    assert saved(tmp_path / "here")["config"]["epochs"] == 42


def test_the_process_ends_with_two_and_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, "epochz=3")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "enas-greet: epochz: enas-greet has no such key or group; did you mean epochs?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [[], ["-m", "seed=0,1"], ["-m", "seed=0,1", "hydra/launcher=joblib"]])
def test_ctrl_c_ends_with_130_and_no_trace(tmp_path: Path, mode: list[str]) -> None:
    process = start(tmp_path, "ending=wait", "run_dir=run", *mode)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "joblib" in "".join(mode) or list(tmp_path.rglob("interrupted"))


def test_a_sweep_over_processes(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "run_dir=ü 1")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert sorted(path.parent.name for path in tmp_path.rglob("run.json")) == ["seed-0", "seed-1"]


def test_a_mistake_in_a_sweep_over_processes(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "seed=0,1", "hydra/launcher=joblib", "ending=mistake", "run_dir=run")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert set(err.splitlines()) == {"enas-greet: something: is not right"}
