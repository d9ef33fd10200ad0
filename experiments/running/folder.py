"""The folder of a study: its grids and pins in `study.json`, and one folder for each run.

    runs/study/study.json            what was asked for, and what `auto` stands for
    runs/study/<run>/                as train.py makes it
    runs/study/logs/<run>.log        what train.py printed
    runs/study/report/               made by experiments.report
    runs/study/search.journal        of a search: its trials, as Optuna writes them

No other state is kept: a run is done when its folder holds the last step's checkpoint and policy.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from agents.runtime.checkpoint import (
    CONTENT,
    LEFTOVER,
    PATTERN,
    opened,
    remove_leftovers,
    write_json,
)
from agents.teachers import POLICY_FILE
from configs.errors import UsageError
from configs.grid import Planned, distinct, expand
from configs.study import Axes
from experiments.training.lock import HOLDER, LOCK_FILES, FolderLock
from experiments.training.run_folder import CHECKPOINTS

STUDY, LOGS, REPORT = "study.json", "logs", "report"
FORMAT = "auxgate study 1"
WORKERS = ".workers.lock"
PRUNED = "pruned"
"""An empty file in the folder of a run that a search gave up."""
UNSOUND = "unsound"
"""An empty file in the folder of a run whose last updates came to nothing."""
PATIENCE = 60.0
"""Seconds that runs of a study whose program was killed get to save and end."""


@dataclass(frozen=True)
class Grid:
    """One grid of a study; what is added later is another."""

    axes: Axes
    named: tuple[str, ...] = ()
    """Flags that are part of the names, like those with several values."""


@dataclass(frozen=True)
class Search:
    """What a search tries."""

    axes: Axes
    """Values of each flag, or the range of a number."""
    trials: int
    """How many combinations."""
    prune: bool
    """Whether trials that are worse than others end early."""


@dataclass(frozen=True)
class Study:
    """All that a study was asked for."""

    folder: Path
    grids: tuple[Grid, ...]
    pins: Mapping[str, str]
    """What `auto` stands for in every run, by flag."""
    search: Search | None = None
    """Which proposes the grids, one by one; none where all are given."""

    def runs(self) -> list[Planned]:
        """All runs, each once; those of the first grid come first.

        Raises:
            UsageError: with one sentence for the user.
        """
        found = [run for grid in self.grids for run in expand(grid.axes, self.pins, grid.named)]
        return distinct(found)

    def extended(self, axes: Axes) -> "Study":
        """The study and the runs of its first grid with these values in the place of its own."""
        if not axes:
            return self
        first = self.grids[0]
        named = (*first.named, *(flag for flag in axes if flag != "seed"))
        varied = [flag for flag, words in first.axes.items() if len(words) > 1]
        grid = Grid({**first.axes, **axes}, tuple(sorted({*named, *varied})))
        return self.with_grid(grid)

    def with_grid(self, grid: Grid) -> "Study":
        """The study with one more grid, unless it has it."""
        return self if grid in self.grids else replace(self, grids=(*self.grids, grid))

    def save(self) -> None:
        """Writes `study.json`, which was not there before or is replaced as a whole.

        Raises:
            UsageError: the folder cannot be written; a new one is removed.
        """
        content: dict[str, Any] = {"format": FORMAT, "grids": [asdict(grid) for grid in self.grids]}
        if self.search is not None:
            content["search"] = asdict(self.search)
        made = not (self.folder / STUDY).exists()
        try:
            (self.folder / LOGS).mkdir(parents=True, exist_ok=True)
            write_json(self.folder / STUDY, {**content, "pins": dict(self.pins)})
        except OSError as error:
            if made:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise _unwritable(self.folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"--output {folder} cannot be written ({error.strerror or error}): free some space, or "
        "choose another folder."
    )


def load(folder: Path) -> Study:
    """Reads the study in a folder.

    Raises:
        UsageError: there is none, or it was written by another version.
    """
    try:
        content = json.loads((folder / STUDY).read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}")
        grids = tuple(
            Grid({flag: tuple(words) for flag, words in grid["axes"].items()}, tuple(grid["named"]))
            for grid in content["grids"]
        )
        search = content.get("search")
        if search is not None:
            axes = {flag: tuple(words) for flag, words in search["axes"].items()}
            search = Search(axes, int(search["trials"]), bool(search["prune"]))
        return Study(folder, grids, dict(content["pins"]), search)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is not a study's folder: it has no {STUDY}.") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{folder / STUDY} cannot be read ({error}): start a new study in another folder."
        ) from error


def check_free(folder: Path, axes: Axes) -> bool:
    """Whether a folder holds this very study already; it may be new, too.

    Args:
        folder: for the study.
        axes: of its grid.

    Raises:
        UsageError: something else is in it.
    """
    if (folder / STUDY).is_file():
        there = load(folder)
        if (there.search or there.grids[0]).axes == dict(axes):
            return True
        raise UsageError(
            f"--output {folder} holds another study: choose another folder, or add to that study "
            f"by --resume {folder}."
        )
    try:
        if folder.exists() and not (folder.is_dir() and _never_began(folder)):
            raise UsageError(f"--output {folder} is not empty: choose another folder.")
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be read ({error.strerror}): choose another folder."
        ) from error
    return False


def _never_began(folder: Path) -> bool:
    """Whether a folder holds only what `study.py` writes before `study.json`, if anything."""
    entries = {path.name: path for path in folder.iterdir()}
    logs = entries.pop(LOGS, None)
    return (logs is None or (logs.is_dir() and not any(logs.iterdir()))) and all(
        name in (WORKERS, *LOCK_FILES) or _is_leftover(name) for name in entries
    )


def _is_leftover(name: str) -> bool:
    written = LEFTOVER.fullmatch(name)
    return written is not None and written[1] in (STUDY, HOLDER)


def make(folder: Path) -> None:
    """Makes a study's folder, with nothing in it.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other programs of this study away, and waits for runs that a killed one left.

    Raises:
        InUseError: another `study.py` works in this folder.
        UsageError: its runs do not end.
    """
    with FolderLock(folder), (folder / WORKERS).open("w") as workers:
        patience = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > patience:
                    raise UsageError(
                        f"runs of an earlier study.py in {folder} still go on: end them first."
                    ) from error
                time.sleep(0.1)
        fcntl.flock(workers, fcntl.LOCK_UN)
        remove_leftovers(folder, lambda name: name in (STUDY, HOLDER))
        yield


@contextmanager
def working(folder: Path) -> Iterator[None]:
    """Says that a process trains a run of the study in this folder, for `locked`."""
    with (folder / WORKERS).open("w") as workers:
        fcntl.flock(workers, fcntl.LOCK_SH)
        yield


def last_step(folder: Path) -> int | None:
    """Agent steps at the newest checkpoint of a run; None without one."""
    try:
        names = [name for name in os.listdir(folder / CHECKPOINTS) if _is_checkpoint(name)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max((int(name[len("step-") :].partition(".")[0]) for name in names), default=None)


def _is_checkpoint(name: str) -> bool:
    return Path(name).match(PATTERN)


def is_done(folder: Path, steps: int) -> bool:
    """Whether a run has made its steps and ended well, and its policy is that of the last one."""
    step = last_step(folder)
    made = step is not None and step >= steps and _policy_step(folder) == step
    return made and not (folder / UNSOUND).exists()


def _policy_step(folder: Path) -> int | None:
    try:
        with opened(folder / POLICY_FILE, "numpy") as file:
            content: Any = json.loads(file.metadata()[CONTENT])
            return int(content["steps"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def mend(folder: Path, steps: int) -> bool:
    """Prepares the folder of a run that may have been killed at any moment.

    Args:
        folder: of the run.
        steps: that the run is to make.

    Returns:
        Whether there is a checkpoint to go on from; without one the folder is removed.
    """
    step = last_step(folder)
    if step is not None and step >= steps:
        # Killed between the last checkpoint and the policy: the step before is made again.
        next(iter((folder / CHECKPOINTS).glob(f"step-{step:012d}.*"))).unlink()
        step = last_step(folder)
    if step is None:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True
