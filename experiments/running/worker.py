"""One job in whatever process a backend has for it, such as to train a run of a study."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Protocol, TextIO

from configs.grid import Planned
from experiments.running.folder import LOGS, UNSOUND, is_done, mend, working
from experiments.training import command, trainer

CRASHED = 3
"""Exit code of a run that ended with an error that `train.py` does not know."""


class Job(Protocol):
    """What a worker needs to know of its work; small, since it travels."""

    @property
    def name(self) -> str:
        """Tells it from the others."""

    @property
    def log(self) -> Path:
        """What it prints."""

    def run(self) -> int:
        """Does the work, from where it is to its end; returns an exit code."""

    def held(self) -> AbstractContextManager[None]:
        """Says as long as a process of this machine does the work."""


@dataclass(frozen=True)
class TrainingJob:
    """A run of a study."""

    home: str
    """The folder in which `study.py` was started, since flags may name files in it."""
    study: str
    """The study's folder, which the worker sees under the same path."""
    name: str
    words: tuple[str, ...]
    """Flags for `train.py`, without --run-dir."""
    steps: int

    @classmethod
    def of(cls, run: Planned, study: Path, home: str) -> "TrainingJob":
        """What a worker needs to know of a planned run.

        Args:
            run: of the study.
            study: its folder.
            home: the folder in which `study.py` was started.
        """
        return cls(home, os.path.abspath(study), run.name, run.words, run.config.run.steps)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.study) / self.name

    @property
    def log(self) -> Path:
        """What `train.py` prints."""
        return Path(self.study) / LOGS / f"{self.name}.log"

    def run(self) -> int:
        """Trains the run from where it is to its end; returns the exit code of `train.py`.

        What is printed goes to the run's log.
        """
        os.chdir(self.home)
        if is_done(self.folder, self.steps):
            return trainer.DONE
        with _log(self.log) as log, _printing_to(log):
            if mend(self.folder, self.steps):
                words = ["--resume", str(self.folder)]
            else:
                words = [*self.words, "--run-dir", str(self.folder)]
            (self.folder / UNSOUND).unlink(missing_ok=True)
            try:
                code = command.main(words)
                if code == trainer.DIVERGED and is_done(self.folder, self.steps):
                    (self.folder / UNSOUND).touch()
                return code
            except Exception:
                traceback.print_exc()
                return CRASHED

    def held(self) -> AbstractContextManager[None]:
        """Says that a process trains a run of the study."""
        return working(Path(self.study))


def work(job: Job) -> int:
    """Does a job; returns its exit code."""
    return job.run()


def _log(path: Path) -> TextIO:
    """Opens a log, which may have to name a path that is no UTF-8."""
    return path.open("a", encoding="utf-8", errors="backslashreplace")


@contextmanager
def _printing_to(log: TextIO) -> Iterator[None]:
    with redirect_stdout(log), redirect_stderr(log):
        yield


def work_alone(job: Job, visible_gpu: str = "") -> None:
    """Does a job as the only one of this process, and ends the process with its exit code.

    The process leaves the terminal's group, so that Ctrl-C reaches the program alone, which then
    ends every job by SIGTERM, at which a run saves.  If the program dies, the process does the
    same by itself.

    Args:
        job: what is to be done.
        visible_gpu: the only GPU that it may use, as CUDA_VISIBLE_DEVICES has it.
    """
    os.setpgid(0, 0)
    if visible_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpu
    end_with_parent()
    try:
        with job.held(), job.log.open("a") as log:
            # What libraries print below Python.
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            code = work(job)
    except OSError as error:
        print(f"{job.name}: {error}", file=sys.stderr)
        code = trainer.MISTAKEN
    sys.exit(code)


def end_with_parent() -> None:
    """Ends this process, as by SIGTERM, when the one that asked for it has died."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def last_line(log: Path) -> str:
    """The last line that a job printed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
