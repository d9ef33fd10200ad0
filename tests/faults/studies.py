"""Kills whole studies, with all their processes, and compares with one that nobody disturbed."""

import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from agents.runtime.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TIMES = frozenset({"seconds", "sps", "environment", "acting", "learning"})
"""Columns of the log that differ between two runs of the same numbers."""
SMALL = (
    "--env Catch Gridworld --aux none inverse --seeds 1 --num-envs 2 --unroll-length 8 "
    "--steps 480 --log-steps 16 --checkpoint-minutes 1e-9 --jobs 2"
)
"""Four runs of 30 updates, with a checkpoint and a line of the log after each."""


def start(*arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
    """Starts `study.py` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "study.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def descendants(pid: int) -> set[int]:
    """All processes below one, however far."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def kill_all(process: "subprocess.Popen[str]") -> None:
    """Ends a program and all its processes as a power failure would: all at the same moment."""
    stopped, new = set[int](), {process.pid}
    while new:  # what is stopped starts no other
        _send(signal.SIGSTOP, new)
        stopped |= new
        new = descendants(process.pid) - stopped
    _send(signal.SIGKILL, stopped)
    process.communicate()


def _send(number: signal.Signals, pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def numbers(folder: Path) -> tuple[Any, list[dict[str, str]]]:
    """All that a run has learnt, and what it logged, without times."""
    state = load_checkpoint(folder / "checkpoints").state["learner"]
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {name: cell for name, cell in row.items() if name not in TIMES}
            for row in csv.DictReader(file)
        ]
    return state, rows


def assert_equal(first: Any, second: Any) -> None:
    """Compares what a checkpoint holds, number for number."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_equal(first[name], second[name])
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


def kill_study(place: str) -> Callable[[int, int, Path], Iterator[str]]:
    """Makes the fault that kills studies on one backend.

    Args:
        place: its name, for --on.
    """

    def kill(seed: int, number: int, folder: Path) -> Iterator[str]:
        """Kills studies at random moments; yields what went wrong for each of them.

        Args:
            seed: of the moments.
            number: of kills.
            folder: an empty one.
        """
        rng = random.Random(seed)
        line = [*SMALL.split(), "--on", place]
        # The paths of Ray's sockets must be short.
        with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as short:
            os.environ["RAY_TMPDIR"] = short
            try:
                yield from _kill_and_compare(rng, number, folder, line)
            finally:
                del os.environ["RAY_TMPDIR"]

    return kill


def _kill_and_compare(
    rng: random.Random, number: int, folder: Path, line: list[str]
) -> Iterator[str]:
    began = time.monotonic()
    process = start(*line, "--output", str(folder / "whole"))
    said, _ = process.communicate()
    assert process.returncode == 0, said
    usual = time.monotonic() - began
    whole = {run.name: numbers(run) for run in sorted((folder / "whole").glob("*-s1"))}
    turn = done = 0
    while done < number:
        turn += 1
        broken, kills = folder / f"broken {turn}", 0
        while True:
            process = start(*line, "--output", str(broken))
            try:
                said, _ = process.communicate(
                    timeout=rng.uniform(0, usual) if done < number else 10 * usual
                )
            except subprocess.TimeoutExpired:
                kill_all(process)
                done, kills = done + 1, kills + 1
                yield ""
                continue
            break
        trouble = "" if process.returncode == 0 and "Traceback" not in said else said
        for name, (state, rows) in whole.items() if not trouble else ():
            try:
                other, others = numbers(broken / name)
                assert_equal(state, other)
                assert rows == others, f"{rows} != {others}"
            except (AssertionError, OSError) as error:
                trouble = f"{name}: {error}"
        if trouble:
            yield f"a study {' '.join(line)}, after {kills} kills: {trouble}"
        shutil.rmtree(broken)
