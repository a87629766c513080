"""A file is whole or absent, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enas.files import written_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from enas.files import written_whole
with written_whole(Path(sys.argv[1])) as file:
    file.write(b"half of the n")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_new_bytes_replace_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"old", b"new"):
        with written_whole(path) as file:
            file.write(text)
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with written_whole(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def crash(source: Path, target: Path) -> None:
        assert source.read_bytes() == b"new"
        assert target.read_bytes() == b"old"
        raise SystemError

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(SystemError), written_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"


def test_a_killed_process_leaves_the_old_file_and_does_not_hinder_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    root = Path(__file__).parent.parent
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with written_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
