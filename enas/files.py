"""Files that are whole or absent, whenever the process is killed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into that becomes `path` when the block ends well.

    It is written aside, brought to the disk and renamed, so that `path` always holds all of the old bytes or
    all of the new ones. When the block raises, `path` is as it was.
    """
    aside = path.with_name(path.name + ".partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all. Raises ValueError on NaN and infinity."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    with written_whole(path) as file:
        file.write(text.encode() + b"\n")
