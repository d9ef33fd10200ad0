"""Two processes of a test, side by side, that talk to each other over the loopback interface."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300
"""Seconds, on a machine that has other things to do; a process that waits in vain fails."""


def run_two(
    module: str,
    arguments: Callable[[int], Sequence[str]],
    settings: Callable[[int], Mapping[str, str]] = lambda rank: {},
) -> tuple[list[int], list[str]]:
    """Runs a module in two processes to their end.

    Args:
        module: as of `python -m`.
        arguments: of the process of a rank.
        settings: further environment variables of the process of a rank.

    Returns:
        Exit codes, and what each wrote to its error stream.
    """
    usual = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments(rank)],
            cwd=ROOT,
            env={**os.environ, **usual, **settings(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], errors
