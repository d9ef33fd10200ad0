"""One engine for all studies: arms times seeds, trained where a row is missing.

A study says which runs it wants and how one of them becomes a row; `Study.complete` trains those
that its tables lack and appends each row as soon as its run ends, so that an interrupted study
goes on where it stopped.  Summaries and figures are made from the tables alone.
"""

import contextlib
import csv
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np

from agents.logs.report import METRICS_FILE
from experiments.results import Row, Table, header
from experiments.training.command import main
from experiments.training.lock import FolderLock
from experiments.training.trainer import DONE


def train_log(flags: Sequence[str]) -> list[Row]:
    """Trains once, prints nothing, and returns the lines of the log.

    Raises:
        ValueError: the run was refused or failed; the message is what it printed.
    """
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = main([*flags, "--run-dir", str(run)])
        if code != DONE:
            raise ValueError(said.getvalue().strip())
        with (run / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def average(column: str, rows: Sequence[Row]) -> float:
    """Mean of a column over the rows that have it; NaN if none has."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return float(np.mean(values)) if values else float("nan")


def without_heads(flags: Sequence[str]) -> list[str]:
    """Drops the flags of heads and gates, with their values."""
    kept: list[str] = []
    keeps = True
    for word in flags:
        if word.startswith("--"):
            keeps = not word.startswith(("--aux.", "--gate.", "--teacher"))
        if keeps:
            kept.append(word)
    return kept


ALONE = "main only"
"""The arm without a head."""

Key = tuple[str, ...]
"""Which run: the arm in one word or several, then the seed."""


@dataclass(frozen=True)
class Study:
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
        *,
        keep: bool,
    ) -> None:
        """Trains the runs that are missing.

        Args:
            wanted: all runs, in their order.
            train: trains a run and returns its cells, one sequence for each table.
            arguments: the program's, for the remarks above the tables.
            keep: whether runs that the tables hold already are kept; if not, they start empty.

        Raises:
            ValueError: a run failed; the rows before it are kept.
            InUseError: another process writes these tables.
        """
        folder = self.tables[-1].path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(folder):
            self._complete(wanted, train, arguments, keep=keep)

    def _complete(
        self,
        wanted: Sequence[Key],
        train: Callable[[Key], Sequence[Sequence[str]]],
        arguments: Sequence[str],
        *,
        keep: bool,
    ) -> None:
        remarks, done = self._done() if keep else ([], set())
        if set(wanted) - done:
            remarks = [*remarks, *header(self.program, arguments)]
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


def train_arm(
    name: str,
    task: Sequence[str],
    head: Sequence[str] | None,
    flags: Sequence[str],
) -> tuple[list[Row], float]:
    """Trains one arm with one seed in this process.

    Args:
        name: of the run, for errors.
        task: flags of all arms: the environment, steps, the seed.
        head: flags of the arm's head and gate; None trains without heads.
        flags: the user's; without heads, those of heads and gates are left out.

    Returns:
        The lines of the log, and the seconds of processor time.

    Raises:
        ValueError: `train.py` refused or failed; holds its message.
    """
    own = without_heads(flags) if head is None else [*head, *flags]
    began = time.process_time()
    try:
        rows = train_log([*task, *own])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return rows, time.process_time() - began


def number(value: float, digits: str = ".5g") -> str:
    """A number as a cell; empty where it was not measured."""
    return "" if isnan(value) else format(value, digits)


def parse_number(cell: str) -> float:
    """Reads a cell that `number` wrote; NaN if it is empty."""
    return float(cell or "nan")
