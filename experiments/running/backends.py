"""Where the runs of a study are trained: processes of this machine, Ray, or SLURM.

Each backend starts tasks, says which have ended, and stops those that go on.  They share nothing
but the disk with `study.py`: state and progress of a run are in its folder.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from agents.networks.actor_critic import choose_precision
from configs.errors import UsageError
from envs.atari.games import installed_backends
from experiments.running.worker import Task, work_alone

ROOT = Path(__file__).resolve().parents[2]
Ended = tuple[Task, int]
"""A task and the exit code of its run."""


class Backend(Protocol):
    """Trains runs somewhere."""

    def pins(self) -> dict[str, str]:
        """What `auto` stands for where the runs are trained, by flag."""

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""

    @property
    def free(self) -> int:
        """How many more tasks it takes now."""

    @property
    def busy(self) -> int:
        """How many tasks it has."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Takes tasks, at most `free`."""

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for tasks to end, but no longer than this; returns those that have."""

    def stop(self) -> None:
        """Asks all runs to save and end; `wait` then returns them."""

    def close(self) -> None:
        """Gives back what it holds."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def resolve() -> dict[str, str]:
    """What `auto` stands for on the machine that calls this."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    played = installed_backends()
    return {
        "device": device.type,
        "precision": choose_precision(device)[0],
        **({"env.backend": played[0]} if played else {}),
    }


class Local:
    """Processes of this machine, forked from one that has imported everything."""

    def __init__(self, jobs: int, gpus: float) -> None:
        """Starts nothing yet.

        Args:
            jobs: runs at a time.
            gpus: for each run; 0 leaves all GPUs to all runs.
        """
        self.slots = jobs
        self._context = forked()
        self._running: dict[int, tuple[Any, Task, int]] = {}
        self._gpus = _visible_gpus() if gpus else []
        if gpus > 1:
            raise UsageError(f"--gpus {gpus:g}: a run computes on one GPU at most: give 1 or less.")
        if gpus:
            per_gpu = int(1 / gpus)
            self.slots = min(jobs, per_gpu * len(self._gpus))

    def pins(self) -> dict[str, str]:
        """What `auto` stands for on this machine."""
        return resolve()

    @property
    def free(self) -> int:
        """Jobs that are not running."""
        return self.slots - len(self._running)

    @property
    def busy(self) -> int:
        """Jobs that are running."""
        return len(self._running)

    def start(self, tasks: Sequence[Task]) -> None:
        """Starts a process for each task."""
        for task in tasks:
            taken = {slot for _, _, slot in self._running.values()}
            slot = next(number for number in range(self.slots) if number not in taken)
            gpu = self._gpus[slot % len(self._gpus)] if self._gpus else ""
            process = self._context.Process(target=work_alone, args=(task, gpu), name=task.name)
            with importable():
                process.start()
            self._running[process.sentinel] = (process, task, slot)

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for a process to end."""
        ended = []
        sentinels: list[Any] = list(self._running)
        for sentinel in connection.wait(sentinels, timeout=seconds):
            process, task, _ = self._running.pop(cast(int, sentinel))
            process.join()
            ended.append((task, int(process.exitcode)))
        return ended

    def stop(self) -> None:
        """Sends every process the signal at which it saves and ends."""
        for process, _, _ in self._running.values():
            process.terminate()

    def close(self) -> None:
        """Ends what still runs."""
        for process, _, _ in self._running.values():
            process.kill()
            process.join()


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    if not found or not torch.cuda.is_available():
        raise UsageError("--gpus: no GPU was found here: drop it, or use --on ray or slurm.")
    return found


@contextmanager
def importable() -> Iterator[None]:
    """Lets a process that Python starts meanwhile import what this one can."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def forked() -> Any:
    """Makes processes by forking one that has imported everything and done nothing else."""
    context: Any = get_context("forkserver")
    context.set_forkserver_preload(["experiments.running.worker"])
    return context
