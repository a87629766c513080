"""The run directory: metrics, TensorBoard events, JSON files and checkpoints, so that a killed run can go on.

`metrics.jsonl` holds one line a call of `Record.scalars`, and is equal byte for byte for equal seeds; what
depends on the clock or the memory goes to `timings.jsonl`. A checkpoint remembers how many lines there were
(`Record.metrics_lines`), and `Record.reopen` cuts what was written after it.
"""

import json
import math
import os
import platform
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from enas import kernels
from enas.draw import figure_to_image
from enas.errors import UserError
from enas.files import write_json, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECKPOINT_FORMAT = "enas-checkpoint"
CHECKPOINT_VERSION = 1
TIMING_PREFIX = "time/"


class Record:
    """The run directory of one run, open for writing.

    Use `Record.create` for a new run and `Record.reopen` to go on with an old one, in a `with` statement or
    with `close` at the end. Steps never decrease.
    """

    def __init__(self, run_dir: Path, purge_step: int | None = None) -> None:
        """Open `run_dir`, which exists; TensorBoard forgets earlier events of step `purge_step` and later."""
        from torch.utils.tensorboard import SummaryWriter

        self.run_dir = run_dir
        self._metrics_lines = len(_lines(run_dir / "metrics.jsonl"))
        self._metrics = (run_dir / "metrics.jsonl").open("a", encoding="utf-8", newline="\n", buffering=1)
        self._timings = (run_dir / "timings.jsonl").open("a", encoding="utf-8", newline="\n", buffering=1)
        _wait_for_a_new_second(run_dir)
        self._writer = SummaryWriter(str(run_dir), purge_step=purge_step)

    @classmethod
    def create(cls, run_dir: Path) -> "Record":
        """Start a new run in `run_dir`, which is made here, or is an empty directory.

        Raises UserError where it holds anything, and where it cannot be made.
        """
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            if any(run_dir.iterdir()):
                raise UserError(
                    f"run_dir={run_dir} already holds files and is never overwritten: "
                    f"give another run_dir, or continue that run with resume={run_dir}"
                )
            return cls(run_dir)
        except OSError as error:
            raise UserError(f"run_dir={run_dir} cannot be written: {error.strerror}") from error

    @classmethod
    def reopen(cls, run_dir: Path, step: int, metrics_lines: int) -> "Record":
        """Go on with a run from its checkpoint: `step` is the first step that will be written from now on.

        metrics.jsonl is cut to its first `metrics_lines` lines, timings.jsonl to the steps before `step`, and
        TensorBoard's events are purged from `step` on. Raises UserError where metrics.jsonl has fewer lines.
        """
        metrics = _lines(run_dir / "metrics.jsonl")
        if len(metrics) < metrics_lines:
            raise UserError(
                f"{run_dir / 'metrics.jsonl'} has {len(metrics)} lines but the checkpoint was written after "
                f"{metrics_lines}: the run directory was altered and cannot be resumed"
            )
        _cut(run_dir / "metrics.jsonl", metrics[:metrics_lines])
        timings = _lines(run_dir / "timings.jsonl")
        _cut(run_dir / "timings.jsonl", [line for line in timings if json.loads(line)["step"] < step])
        return cls(run_dir, purge_step=step)

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def metrics_lines(self) -> int:
        """How many lines metrics.jsonl has: part of every checkpoint."""
        return self._metrics_lines

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write `values`, by tag, to TensorBoard and as one line of metrics.jsonl.

        Tags that start with `time/` go to timings.jsonl instead. NaN and infinity become null there.
        """
        numbers = {tag: float(value) for tag, value in values.items()}
        for tag, number in numbers.items():
            self._writer.add_scalar(tag, number, step)
        row = {tag: number if math.isfinite(number) else None for tag, number in numbers.items()}
        metrics = {tag: number for tag, number in row.items() if not tag.startswith(TIMING_PREFIX)}
        timings = {tag: number for tag, number in row.items() if tag.startswith(TIMING_PREFIX)}
        if metrics:
            self._metrics.write(json.dumps({"step": step, **metrics}) + "\n")
            self._metrics_lines += 1
        if timings:
            self._timings.write(json.dumps({"step": step, **timings}) + "\n")

    def figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Show `figure` in TensorBoard's images."""
        image = figure_to_image(figure)
        self._writer.add_image(tag, image, step, dataformats="HWC")

    def text(self, tag: str, text: str, step: int) -> None:
        """Show `text` (Markdown) in TensorBoard's texts."""
        self._writer.add_text(tag, text, step)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to the file `name`, whole or not at all. Raises ValueError on NaN and infinity."""
        write_json(self.run_dir / name, value)

    def write_documents(self, documents: Mapping[str, Any]) -> None:
        """Write each value to the file of its name."""
        for name, value in documents.items():
            self.write_json(name, value)

    def save_checkpoint(self, state: Mapping[str, Any], name: str = "checkpoint.pt") -> None:
        """Write `state` to the file `name`, whole or not at all, after all that was recorded before it.

        `state` consists of tensors, numbers, strings, lists and dicts: `load_checkpoint` reads nothing else.
        """
        self.flush()
        with written_whole(self.run_dir / name) as file:
            torch.save({"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION, **state}, file)

    def flush(self) -> None:
        """Bring all that was recorded to the disk."""
        for file in (self._metrics, self._timings):
            file.flush()
            os.fsync(file.fileno())
        self._writer.flush()

    def close(self) -> None:
        """Flush and close; the record writes nothing afterwards."""
        self.flush()
        self._metrics.close()
        self._timings.close()
        self._writer.close()


def _wait_for_a_new_second(run_dir: Path) -> None:
    """Let the next event file sort last: TensorBoard reads them by name, which starts with the second."""
    seconds = [int(path.name.split(".")[3]) for path in run_dir.glob("events.out.tfevents.*")]
    while seconds and int(time.time()) == max(seconds):
        time.sleep(0.05)


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; a last one without its end was being written when the run was killed."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def _cut(path: Path, lines: list[str]) -> None:
    with written_whole(path) as file:
        file.write("".join(lines).encode())


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `Record.save_checkpoint` wrote.

    Tensors that were saved from a GPU go to `device`; those saved from the CPU stay there, where torch wants
    random states. No code of the file is executed. Raises UserError where the file is missing, damaged (every
    byte is checked), no checkpoint of enas, or of another version.
    """

    def place(storage: Any, saved_on: str) -> Any:
        return storage if saved_on == "cpu" else storage.to(device=torch.device(device))

    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    with file:
        try:
            # torch does not compare the checksums of the archive.
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile
            file.seek(0)
            state = torch.load(file, map_location=place, weights_only=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # One changed byte fails in one of ten ways, by its place.
            raise UserError(f"checkpoint {path} is damaged, or is no checkpoint") from error
    if not isinstance(state, dict) or state.pop("format", None) != CHECKPOINT_FORMAT:
        raise UserError(f"{path} is no checkpoint of enas")
    version = state.pop("version", None)
    if version != CHECKPOINT_VERSION:
        raise UserError(f"checkpoint {path} is of version {version}, but this enas reads version {CHECKPOINT_VERSION}")
    return state


def manifest(
    seed: int,
    device: torch.device,
    threads: int,
    command: str,
    overrides: Sequence[str],
    config: Mapping[str, Any],
    precision: str = "fp32",
) -> dict[str, Any]:
    """What run.json says of a run's origin: what was asked for, and on which machine and versions it ran.

    `machine.kernels` is who computes the kernels: "native" or "reference".
    """
    return {
        "command": command,
        "overrides": list(overrides),
        "config": dict(config),
        "seed": seed,
        "precision": precision,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "enas": _version("enas"),
            "torch": torch.__version__,
            "numpy": _version("numpy"),
            "python": platform.python_version(),
        },
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "threads": threads,
            "kernels": kernels.in_use(device),
        },
    }


def _version(package: str) -> str | None:
    """The version of a package; None where it runs from a source tree, uninstalled."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The name of the CPU: Linux alone has it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def throughput(
    work: Mapping[str, int],
    seconds: float,
    device: torch.device,
    shares: Mapping[str, float] | None = None,
    epochs_left: int = 0,
) -> dict[str, float]:
    """The clock's part of an epoch's log: each kind of `work` (images, children) a second, seconds, peak memory.

    shares       of the time by phase, 0..1
    epochs_left  as long as this one each, for the seconds until the end
    """
    values = {f"{kind}_per_second": count / seconds for kind, count in work.items()}
    values |= {"epoch_seconds": seconds, "seconds_left": epochs_left * seconds}
    values |= {f"share/{phase}": share for phase, share in (shares or {}).items()}
    values["peak_memory_mib"] = peak_memory(device) / 2**20
    return {f"{TIMING_PREFIX}{name}": value for name, value in values.items()}


def peak_memory(device: torch.device) -> int:
    """The most memory used so far, in bytes: by torch's tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
