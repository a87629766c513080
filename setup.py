"""Builds the native kernels: one shared library on libtorch's stable ABI, with CUDA code where nvcc is found.

ENAS_CUDA=1 demands nvcc, ENAS_CUDA=0 leaves CUDA out. Without a C++ compiler the package installs without the library
and runs on the reference; `enas` says so when it runs.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = Path("csrc")
TARGET = "-DTORCH_TARGET_VERSION=0x020b000000000000"  # torch 2.11, the oldest the library loads on
LEVELS = {"x86-64": "-O2", "x86-64-v3": "-O3", "x86-64-v4": "-O3"}
"""The instruction sets that csrc/cpu/level is compiled for, and how well: the first, which takes longest, is for
processors of before 2013. The library picks one when it runs."""
ARCHITECTURES = ("-gencode=arch=compute_80,code=[sm_80,sm_90,compute_80]",)
"""Machine code for A100 and H100/H200, and PTX for what comes after them, all from one pass of the compiler."""
RELOCATABLE = {"backward": ["-rdc=true", "-maxrregcount=128"]}
"""Files whose device functions ptxas takes one by one, with the registers that are left to each thread."""


class BuildKernels(build_ext):
    """Calls the compilers by hand: torch's own build helpers want a CUDA build of torch."""

    def build_extension(self, extension: Extension) -> None:
        try:
            self._build(Path(self.get_ext_fullpath(extension.name)))
        except (OSError, subprocess.CalledProcessError, ImportError) as error:
            raise CompileError(f"the native kernels were not built: {error}") from error  # `optional` swallows this one

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"  # no Python ABI in its name: it uses none

    def _build(self, library: Path) -> None:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise OSError(f"there is no C++ compiler {compiler}")
        import torch

        nvcc = shutil.which("nvcc") if os.environ.get("ENAS_CUDA") != "0" else None
        if nvcc is None and os.environ.get("ENAS_CUDA") == "1":
            raise OSError("ENAS_CUDA=1, and there is no nvcc on the PATH")

        root = Path(torch.__path__[0])
        includes = [f"-I{SOURCES}", "-isystem", str(root / "include")]
        strict = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
        cxx = [compiler, "-c", "-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", *strict, TARGET, *includes]
        scratch = Path(self.build_temp)
        scratch.mkdir(parents=True, exist_ok=True)

        objects: list[Path] = []
        commands: list[list[str]] = []

        def compile_one(source: Path, suffix: str, command: list[str]) -> None:
            objects.append(scratch / f"{source.stem}{suffix}.o")
            commands.append([*command, str(source), "-o", str(objects[-1])])

        intel = platform.machine() in ("x86_64", "AMD64")
        for source in sorted((SOURCES / "cpu" / "level").glob("*.cpp")):
            for number, level in enumerate(LEVELS if intel else [None]):
                march = [f"-march={level}", LEVELS[level]] if level else []
                # The compiler's own choices of vector width and function multiversioning fail silently; see vector.h.
                compile_one(source, f"-{number}", [*cxx, *march, f"-DENAS_LEVEL=level{number}"])
        if nvcc is not None:
            device = [
                nvcc, "-c", "-std=c++20", "-O1", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xcompiler=-Wall",
                "--Werror=all-warnings", "-DENAS_CUDA", TARGET, *includes, *ARCHITECTURES,
            ]  # fmt: skip
            for source in sorted((SOURCES / "cuda").glob("*.cu")):
                compile_one(source, "-cuda", [*device, *RELOCATABLE.get(source.stem, [])])
            for source in sorted((SOURCES / "cuda").glob("*.cpp")):
                compile_one(source, "-cuda", [*cxx, "-DENAS_CUDA", *self._cuda_includes(nvcc)])
        for source in [*sorted((SOURCES / "cpu").glob("*.cpp")), SOURCES / "ops.cpp"]:
            compile_one(source, "", cxx)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._run, commands))  # quick ones last

        library.parent.mkdir(parents=True, exist_ok=True)
        # nvcc finds its own run-time library, which is linked statically: a machine with a driver needs no toolkit.
        cuda_link = ["-shared", "-cudart=static", f"-ccbin={compiler}", *ARCHITECTURES]
        link = [compiler, "-shared"] if nvcc is None else [nvcc, *cuda_link]
        keep = "-Wl,--no-as-needed" if nvcc is None else "-Xlinker=--no-as-needed"
        self._run([*link, *map(str, objects), f"-L{root / 'lib'}", keep, "-ltorch_cpu", "-lc10", "-o", str(library)])

    def _cuda_includes(self, nvcc: str) -> list[str]:
        """Where the run-time library's headers are, for files without device code: nvcc says it."""
        done = subprocess.run(
            [nvcc, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True, check=True
        )
        said = [line.partition("INCLUDES=")[2] for line in done.stderr.splitlines() if line.startswith("#$ INCLUDES=")]
        flags = [flag for line in said for part in shlex.split(line) for flag in shlex.split(part)]
        return [word for flag in flags for word in ("-isystem", flag.removeprefix("-I"))]

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(" ".join(command), done.stdout, done.stderr, sep="\n")
            done.check_returncode()


class Wheel(bdist_wheel):
    """One wheel serves every Python: the library has no Python in it."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("enas.kernels.native_library", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
