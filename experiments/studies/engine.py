"""What the analyses of studies share: the runs of a `study.py`, and tables of what came of them.

An analysis says which runs it wants and how one of them becomes a row; `Tables.complete` makes
those that its tables lack and appends each row as soon as it is known, so that what is interrupted
goes on where it stopped. Summaries and figures are made from the tables alone.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np

from agents.logs.report import METRICS_FILE
from configs.errors import UsageError
from configs.training import TrainConfig
from experiments.report.runs import LATE
from experiments.results import Row, Table, header
from experiments.running import folder as folders
from experiments.training.lock import FolderLock


def average(column: str, rows: Sequence[Row]) -> float:
    """Mean of a column over the rows that have it; NaN if none has."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return float(np.mean(values)) if values else float("nan")


def late(rows: Sequence[Row], steps: int) -> list[Row]:
    """The rows of the last tenth of a run, whose mean return is called final.

    Args:
        rows: of its log.
        steps: of the whole run.
    """
    return [row for row in rows if int(row["step"]) >= LATE * steps]


ALONE = "main only"
"""The arm without a head."""

Key = tuple[str, ...]
"""Which run: the arm in one word or several, then the seed."""


@dataclass(frozen=True)
class Trained:
    """A run that `study.py` has trained to its end."""

    config: TrainConfig
    rows: Sequence[Row]
    """The lines of its log."""

    @property
    def head(self) -> str:
        """The names of its heads, or `main only`."""
        return "+".join(self.config.choice.aux) or ALONE

    @property
    def gate(self) -> str:
        """The name of its gate; empty without a head."""
        return self.config.choice.gate or ""


def trained(folder: Path) -> dict[Key, Trained]:
    """The runs of a study that are done, by head, gate and seed: all with a seed, then the next.

    Args:
        folder: of the study.

    Raises:
        UsageError: it is no study's folder, a run has several heads, or runs differ in more than
            head, gate and seed.
    """
    found: dict[Key, Trained] = {}
    planned = folders.load(folder).runs()
    for run in sorted(planned, key=lambda run: run.config.run.seed):
        place = folder / run.name
        if not folders.is_done(place, run.config.run.steps):
            print(f"{place} is not done: it is left out.", file=sys.stderr)
            continue
        with (place / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            one = Trained(run.config, list(csv.DictReader(file)))
        if len(run.config.choice.aux) > 1:
            raise UsageError(
                f"{place} has the heads {one.head}: give a study whose runs have one head or none."
            )
        key = (one.head, one.gate, str(run.config.run.seed))
        if key in found:
            raise UsageError(
                f"{folder} has two runs with {', '.join(filter(None, key[:2]))} and seed {key[2]}: "
                "give a study whose runs differ in head, gate and seed alone."
            )
        found[key] = one
    if not found:
        raise UsageError(f"{folder} has no run that is done: train it by study.py first.")
    return found


@dataclass(frozen=True)
class Tables:
    """The tables of a study.  Each begins with the columns of the key, then come its own."""

    program: str
    """What follows `python` in the command that made it."""
    key: tuple[str, ...]
    """The names of the columns that tell the runs apart."""
    tables: tuple[Table, ...]
    """The row in the last one is written last: a run that has one is complete."""

    def complete(
        self,
        wanted: Sequence[Key],
        train: Callable[[Key], Sequence[Sequence[str]]],
        arguments: Sequence[str],
        said: Sequence[str] = (),
        *,
        keep: bool,
    ) -> None:
        """Makes the rows that are missing.

        Args:
            wanted: all runs, in their order.
            train: makes a run's cells, one sequence for each table.
            arguments: the program's, for the remarks above the tables.
            said: further remarks, such as the title of the figure.
            keep: whether runs that the tables hold already are kept; if not, they start empty.

        Raises:
            ValueError: a run failed; the rows before it are kept.
            InUseError: another process writes these tables.
        """
        folder = self.tables[-1].path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(folder):
            self._complete(wanted, train, arguments, said, keep=keep)

    def _complete(
        self,
        wanted: Sequence[Key],
        train: Callable[[Key], Sequence[Sequence[str]]],
        arguments: Sequence[str],
        said: Sequence[str],
        *,
        keep: bool,
    ) -> None:
        remarks, done = self._done() if keep else ([], set())
        if set(wanted) - done:
            remarks = [*remarks, *header(self.program, arguments, said)]
        for table in self.tables:
            _, rows = table.read() if keep else ([], [])
            table.start(remarks, [row for row in rows if self.key_of(row) in done])
        for key in wanted:
            if key in done:
                continue
            for table, cells in zip(self.tables, train(key), strict=True):
                table.append((*key, *cells))

    def key_of(self, row: Row) -> Key:
        """Which run a row is of."""
        return tuple(row[name] for name in self.key)

    def _done(self) -> tuple[list[str], set[Key]]:
        remarks, rows = self.tables[-1].read()
        return remarks, {self.key_of(row) for row in rows}


def by_seed(arms: Sequence[Key], seeds: Sequence[int]) -> list[Key]:
    """The keys of all runs: every arm with the first seed, then with the second, and so on."""
    return [(*arm, str(seed)) for seed in seeds for arm in arms]


def number(value: float, digits: str = ".5g") -> str:
    """A number as a cell; empty where it was not measured."""
    return "" if isnan(value) else format(value, digits)


def parse_number(cell: str) -> float:
    """Reads a cell that `number` wrote; NaN if it is empty."""
    return float(cell or "nan")
