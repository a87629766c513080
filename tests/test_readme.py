"""The README's map has one line for each file, and no line for a file that is gone."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_map_is_complete() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {name for name in listed if not name.startswith("tests/") and (ROOT / name).exists()}
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("### Map")[2]
    mapped = re.findall(r"^\| `([^`]+)` \| \S", text, flags=re.MULTILINE)
    assert len(mapped) == len(set(mapped))
    assert set(mapped) - {"tests/"} == files


def test_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target
