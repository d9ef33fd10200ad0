"""Where jobs are done: in processes of this machine, on Ray, or on SLURM.

Each backend starts jobs, says which have ended, and stops those that go on.  Jobs share nothing
but the disk with the program that starts them: state and progress of a run are in its folder.
"""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from agents.networks.actor_critic import choose_precision
from configs.errors import UsageError
from envs.atari.games import installed_backends
from envs.emulators import available_cores
from experiments.running.worker import Job, work_alone

ROOT = Path(__file__).resolve().parents[2]
Ended = tuple[str, int]
"""The name of a job, and its exit code."""


class Backend(Protocol):
    """Does jobs somewhere."""

    def pins(self) -> dict[str, str]:
        """What `auto` stands for where the jobs are done, by flag."""

    @property
    def slots(self) -> int:
        """How many jobs are done at a time."""

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""

    @property
    def busy(self) -> int:
        """How many jobs it has."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Takes jobs, at most `free`."""

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for jobs to end, but no longer than this; returns those that have."""

    def stop(self, names: Collection[str] | None = None) -> None:
        """Asks jobs to save and end; `wait` then returns them.

        Args:
            names: of the jobs; None for all.
        """

    def close(self) -> None:
        """Gives back what it holds."""


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
            jobs: how many at a time.
            gpus: for each; 0 leaves all GPUs to all.

        Raises:
            UsageError: there are no such GPUs.
        """
        self.slots = jobs
        self._context = forked()
        self._running: dict[int, tuple[Any, str, int]] = {}
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
        """How many more jobs it takes now."""
        return self.slots - len(self._running)

    @property
    def busy(self) -> int:
        """Jobs that are being done."""
        return len(self._running)

    def start(self, jobs: Sequence[Job]) -> None:
        """Starts a process for each job."""
        for job in jobs:
            taken = {slot for _, _, slot in self._running.values()}
            slot = next(number for number in range(self.slots) if number not in taken)
            gpu = self._gpus[slot % len(self._gpus)] if self._gpus else ""
            process = self._context.Process(target=work_alone, args=(job, gpu), name=job.name)
            with importable():
                process.start()
            self._running[process.sentinel] = (process, job.name, slot)

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for a process to end."""
        ended = []
        sentinels: list[Any] = list(self._running)
        for sentinel in connection.wait(sentinels, timeout=seconds):
            process, name, _ = self._running.pop(cast(int, sentinel))
            process.join()
            ended.append((name, int(process.exitcode)))
        return ended

    def stop(self, names: Collection[str] | None = None) -> None:
        """Sends processes the signal at which a run saves and ends.

        Args:
            names: of the jobs; None for all.
        """
        for process, name, _ in self._running.values():
            if names is None or name in names:
                process.terminate()

    def close(self) -> None:
        """Ends what still runs."""
        for process, _, _ in self._running.values():
            process.kill()
            process.join()


def choose(
    on: str, jobs: int, gpus: float, address: str, slurm: Sequence[str], folder: Path
) -> Backend:
    """The backend that a command line asks for.

    Args:
        on: local, ray or slurm.
        jobs: how many at a time; 0 for as many as there are cores, or as the backend chooses.
        gpus: for each job.
        address: of a Ray cluster; empty starts one.
        slurm: options of sbatch, KEY=VALUE.
        folder: of the study or the sweep, in which SLURM's files get a folder.

    Raises:
        UsageError: it is not installed, or cannot be reached.
    """
    if on == "local":
        return Local(jobs or available_cores(), gpus)
    # Both wait for much that a study on this machine does not need.
    from experiments.running.remote import RayTasks, SlurmArray

    if on == "ray":
        return RayTasks(jobs, gpus, address)
    return SlurmArray(jobs, gpus, slurm, (folder / "slurm").absolute())


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
