"""Several processes, of one thread each, that compute chunks until none is left.

One thread each, since the kernels are small: two processes do twice what one does, two
threads of one process a fraction more.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from threading import Thread

import torch

from configs.sweep import SweepConfig
from experiments.sweep.chunks import compute
from experiments.sweep.folder import save

PATIENCE = 0.2
"""Seconds between two looks at the workers."""


@dataclass(frozen=True)
class Work:
    """What all workers know."""

    config: SweepConfig
    folder: Path
    missing: Sequence[int]
    """The chunks to compute."""

    def do(self, number: int, learnt: Callable[[int], None]) -> None:
        """Computes one chunk and writes it."""
        chunk = compute(self.config, number, torch.device(self.config.device), learnt)
        save(self.folder, number, chunk)


def choose_workers(config: SweepConfig) -> int:
    """One process per core that this process may use, on a CPU; one alone feeds a GPU."""
    if torch.device(config.device).type != "cpu":
        return 1
    return config.workers or len(os.sched_getaffinity(0))


class WorkerError(RuntimeError):
    """A worker died."""


def compute_all(work: Work, workers: int, learnt: Callable[[int], None]) -> None:
    """Computes all chunks that are missing; those that are done stay done whatever happens.

    Args:
        work: what to do.
        workers: processes; one stays in this process.
        learnt: is told how many updates of how many students, together, are done since the
            last call.

    Raises:
        ValueError: the worlds' settings are hopeless.
        WorkerError: a worker died; it has said itself why.
    """
    if min(workers, len(work.missing)) <= 1:
        torch.set_num_threads(1)
        for number in work.missing:
            work.do(number, learnt)
        return
    context = multiprocessing.get_context("spawn")
    # Signed, of 64 bits.
    taken, done = context.Value("q", 0), context.Value("q", 0)
    complaints = context.SimpleQueue()
    team = [
        context.Process(target=_labour, args=(work, taken, done, complaints), daemon=True)
        for _ in range(min(workers, len(work.missing)))
    ]
    try:
        for process in team:
            process.start()
        told = 0
        while any(process.is_alive() for process in team):
            wait([process.sentinel for process in team if process.is_alive()], PATIENCE)
            now = done.value
            learnt(now - told)
            told = now
            if not complaints.empty():
                raise ValueError(complaints.get())
            if any(process.exitcode for process in team):
                raise WorkerError("A worker died; see above.")
    finally:
        for process in team:
            process.terminate()


def _labour(
    work: Work,
    taken: "Synchronized[int]",
    done: "Synchronized[int]",
    complaints: "SimpleQueue[str]",
) -> None:
    # An interrupt is the parent's to handle; without a parent nobody wants the results.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)

    def learnt(count: int) -> None:
        with done.get_lock():
            done.value += count

    while True:
        with taken.get_lock():
            place = taken.value
            taken.value += 1
        if place >= len(work.missing):
            return
        try:
            work.do(work.missing[place], learnt)
        except ValueError as error:
            complaints.put(str(error))
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    wait([parent.sentinel])
    os._exit(1)
