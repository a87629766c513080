"""Freed memory is used again without being fetched anew, and lies in large pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

KEPT = """
import resource

import torch

from enas.allocator import keep_memory

assert keep_memory()
torch.set_num_threads(1)
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_and_used_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    assert max(faults[4:]) < 10  # the first ones may find two places to take turns in


LARGE = """
import re

import torch

from enas.allocator import keep_memory

assert keep_memory()
kept = torch.zeros(2**24)
with open("/proc/self/smaps") as file:
    print(sum(int(size) for size in re.findall(r"AnonHugePages: +([0-9]+) kB", file.read())))
"""


def gives_large_pages() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[never]" not in setting.read_text()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.skipif(not gives_large_pages(), reason="the system has no large pages to give")
def test_tensors_lie_in_large_pages() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 32 * 1024  # KiB, of a tensor of 64 MiB
