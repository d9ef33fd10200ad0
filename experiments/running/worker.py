"""Trains one run of a study in whatever process a backend has for it."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import TextIO

from experiments.running.folder import LOGS, is_done, mend, working
from experiments.training import command, trainer

CRASHED = 3
"""Exit code of a run that ended with an error that `train.py` does not know."""


@dataclass(frozen=True)
class Task:
    """What a worker needs to know of a run; small, since it travels."""

    home: str
    """The folder in which `study.py` was started, since flags may name files in it."""
    study: str
    """The study's folder, which the worker sees under the same path."""
    name: str
    words: tuple[str, ...]
    """Flags for `train.py`, without --run-dir."""
    steps: int

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.study) / self.name

    @property
    def log(self) -> Path:
        """What `train.py` prints."""
        return Path(self.study) / LOGS / f"{self.name}.log"


def work(task: Task) -> int:
    """Trains a run from where it is to its end; returns the exit code of `train.py`.

    What is printed goes to the run's log.
    """
    os.chdir(task.home)
    if is_done(task.folder, task.steps):
        return trainer.DONE
    with task.log.open("a", encoding="utf-8") as log, _printing_to(log):
        if mend(task.folder, task.steps):
            words = ["--resume", str(task.folder)]
        else:
            words = [*task.words, "--run-dir", str(task.folder)]
        try:
            return command.main(words)
        except Exception:
            traceback.print_exc()
            return CRASHED


@contextmanager
def _printing_to(log: TextIO) -> Iterator[None]:
    with redirect_stdout(log), redirect_stderr(log):
        yield


def work_alone(task: Task, visible_gpu: str = "") -> None:
    """Trains a run as the one job of this process, and ends the process with its exit code.

    The process leaves the terminal's group, so that Ctrl-C reaches `study.py` alone, which then
    asks every run to save.  If `study.py` dies, the run saves and ends by itself.

    Args:
        task: the run.
        visible_gpu: the only GPU that the run may use, as CUDA_VISIBLE_DEVICES has it.
    """
    os.setpgid(0, 0)
    if visible_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpu
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with working(Path(task.study)), task.log.open("a") as log:
            # What libraries print below Python.
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            code = work(task)
    except OSError as error:
        print(f"study.py: {task.name}: {error}", file=sys.stderr)
        code = trainer.MISTAKEN
    sys.exit(code)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def last_line(log: Path) -> str:
    """The last line that a run printed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
