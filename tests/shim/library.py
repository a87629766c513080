"""Builds csrc/cuda for the host: `build` -> a library whose operations `enas_shim::NAME` run the device code.

The tensors are on the CPU. A fresh build takes about half a minute; it is kept by the content of all its sources.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

SHIM = Path(__file__).resolve().parent
SOURCES = SHIM.parents[1] / "csrc"
TARGET = "-DTORCH_TARGET_VERSION=0x020b000000000000"  # as in setup.py
SLOW = ("backward", "forward", "norms")
"""To compile."""
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-sanitize=vptr"]


def compiler() -> str | None:
    """The C++ compiler, or None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(cache: Path, sanitize: bool) -> Path:
    """Build the library in a folder of `cache`, or find it there; processes that ask at once wait for the first."""
    torch_root = Path(torch.__path__[0])
    flags = [
        "-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
        "-Wno-psabi", "-Wno-unknown-pragmas", TARGET, f"-I{SHIM}", f"-I{SOURCES}",
        "-isystem", str(torch_root / "include"), "-include", str(SHIM / "registration.h"),
    ]  # fmt: skip
    if sanitize:
        flags += [*SANITIZERS, "-fno-omit-frame-pointer"]
    folder = cache / _digest(flags)
    library = folder / "shim.so"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _build(flags, torch_root / "lib", library)
    return library


def set_order(library: Path, seed: int) -> None:
    """The order in which blocks and threads run: 0 forwards, 1 backwards, any other number one of its own."""
    ctypes.CDLL(str(library)).shim_set_order(ctypes.c_uint64(seed))


def set_multiprocessors(library: Path, count: int) -> None:
    """How many multiprocessors the device has; to be said before anything is launched."""
    ctypes.CDLL(str(library)).shim_set_multiprocessors(ctypes.c_int(count))


def launches(library: Path) -> int:
    """How many kernels have been launched so far."""
    count = ctypes.CDLL(str(library)).shim_launches
    count.restype = ctypes.c_uint64
    return int(count())


def _sources() -> list[Path]:
    """Slow ones first. The stream is torch's: engine.cpp has another."""
    device = [source for source in SOURCES.glob("cuda/*") if source.suffix in (".cu", ".cpp")]
    device.sort(key=lambda source: (source.stem not in SLOW, source.name))
    return [
        *(source for source in device if source.stem != "stream"),
        SOURCES / "ops.cpp",
        SHIM / "check.cu",
        SHIM / "engine.cpp",
    ]


def _digest(flags: list[str]) -> str:
    content = hashlib.sha256(repr((flags, torch.__version__, platform.machine())).encode())
    content.update(subprocess.run([str(compiler()), "--version"], check=True, capture_output=True).stdout)
    files = [*SOURCES.glob("*"), *SOURCES.glob("cuda/*"), *SHIM.glob("*")]
    for file in sorted(file for file in files if file.suffix in (".cpp", ".h", ".cu", ".cuh")):
        content.update(file.name.encode() + file.read_bytes())
    return content.hexdigest()[:16]


def _build(flags: list[str], libraries: Path, library: Path) -> None:
    def compile_one(source: Path) -> Path:
        made = library.parent / f"{source.stem}{source.suffix}.o"
        _run([*flags, "-x", "c++", "-c", str(source), "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [str(made) for made in pool.map(compile_one, _sources())]
    sanitizers = [flag for flag in flags if flag.startswith("-fsanitize")]
    partial = library.with_suffix(".partial")
    _run(["-shared", *sanitizers, *objects, f"-L{libraries}", "-ltorch_cpu", "-lc10", "-o", str(partial)])
    partial.rename(library)
    for made in objects:
        Path(made).unlink()


def _run(arguments: list[str]) -> None:
    done = subprocess.run([str(compiler()), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stderr}")
