"""glibc keeps what is freed; asked of a process of its own, since it is set for good."""

import subprocess
import sys

import pytest

SCRIPT = """
import os
import sys
import torch
from experiments.training.hardware import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
block = torch.ones(16 * 2**20)  # 64 MiB
held = resident() - before
del block
print(held, resident() - before)
"""


def memory(mode):
    """Bytes that a block of 64 MiB takes while it is held, and after it is freed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True
    )
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept_for_the_next_update():
    held, after = memory("keep")
    assert held >= 60 * 2**20
    assert after >= 60 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_without_it_a_large_block_goes_back_to_the_system():
    held, after = memory("leave")
    assert held >= 60 * 2**20
    assert after < 8 * 2**20
