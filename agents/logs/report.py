"""Reports: every log line goes to `metrics.csv`, TensorBoard, the terminal, and any tracker."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
from jaxtyping import UInt8
from rich.console import Console

from agents.logs.tensorboard import EventFile
from agents.logs.terminal import Progress, Split, Terminal, importance
from agents.logs.tracking import Trackers
from agents.runtime.checkpoint import writable, write_atomically

LEADING = ("step", "seconds")


class Table:
    """Appends rows of named numbers to a CSV file, which is complete after every row.

    The first row decides the columns.  A name that comes later adds a column at the
    end: the file is then rewritten, once.
    """

    def __init__(self, path: Path, start_step: int = 0, group: str = "") -> None:
        """Opens the table, and cuts what another process wrote beyond `start_step`.

        Args:
            path: the file, made at the first row where there is none.
            start_step: agent steps at which this process begins.
            group: what precedes the columns' names in `TAGS`, whose order they have.
        """
        self._group = group
        self._path = path
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self.notes: list[str] = []
        """A sentence on what was damaged in an earlier process's file, if anything was."""
        if path.is_file():
            self._columns, rows, damaged = _read(path, start_step)
            if not self._columns and path.stat().st_size > 0:
                aside = _aside(path)
                path.rename(aside)
                self.notes = [f"{path.name} has lost its columns: it is kept as {aside.name}."]
            elif damaged:
                self.notes = [f"{path.name} had {damaged} damaged lines, which are dropped."]
            if self._columns:
                self._rewrite(rows)

    def append(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes one row through to the disk; a cell is empty where nothing was measured."""
        cells = {"step": str(step)} | {name: _cell(value) for name, value in numbers.items()}
        new = sorted(
            cells.keys() - set(self._columns), key=lambda name: importance(self._group + name)
        )
        if new:
            rows = _read(self._path, step)[1] if self._columns and self._path.is_file() else []
            leading = [name for name in LEADING if name in new]
            self._columns += leading + [name for name in new if name not in leading]
            self._rewrite(rows)
        if not self._path.is_file():
            # It was removed meanwhile: what was not, is written on.
            writable(self._path)
            self._rewrite([])
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8", newline="")
        self._file.write(_lines([[cells.get(name, "") for name in self._columns]]))
        self._file.flush()

    def _rewrite(self, rows: Iterable[Sequence[str]]) -> None:
        self.close()
        width = len(self._columns)
        padded = [[*row, *[""] * (width - len(row))] for row in rows]
        write_atomically(self._path, _lines([self._columns, *padded]).encode())

    def close(self) -> None:
        """Closes the file; a later row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(path: Path, last_step: int) -> tuple[list[str], list[list[str]], int]:
    """The columns, the whole rows up to `last_step`, and how many other lines are damaged.

    All empty if the file is no such table.
    """
    # A process killed in the middle of a row leaves a last line without an end.
    lines = path.read_text("utf-8", "replace").split("\n")[:-1]
    # One by one, so that a damaged quotation mark does not swallow the lines after it.
    read = [_cells(line) for line in lines]
    if not read or read[0][:1] != ["step"]:
        return [], [], 0
    columns, rows = read[0], [row for row in read[1:] if len(row) == len(read[0])]
    whole = [row for row in rows if all(map(_is_number, row)) and _STEP.fullmatch(row[0])]
    return columns, [row for row in whole if int(row[0]) <= last_step], len(read) - 1 - len(whole)


_STEP = re.compile("[0-9]{1,18}")


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # a cell that is too long, a NUL
        return []


def _is_number(cell: str) -> bool:
    try:
        return not cell or math.isfinite(float(cell)) or cell.strip("-") in ("inf", "nan")
    except ValueError:
        return False


def _aside(path: Path) -> Path:
    """A free name for a damaged file."""
    names = (f"{path.stem}.damaged{number or ''}{path.suffix}" for number in count())
    return next(free for name in names if not (free := path.with_name(name)).exists())


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: float) -> str:
    if value.is_integer():
        return f"{value:.0f}"
    return "" if math.isnan(value) else f"{value:.6g}"


METRICS_FILE = "metrics.csv"
EVALUATIONS_FILE = "evaluations.csv"
EVALUATION = "evaluation/"

__all__ = ["EVALUATIONS_FILE", "METRICS_FILE", "Progress", "Report", "Split"]


class Report:
    """One run's log lines, in all places; a context manager.

    Every line is on the disk when `log` returns.  Whatever cannot be written raises
    `OSError` there and then, and leaves what was written before readable.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        description: Mapping[str, object],
        start_step: int = 0,
        console: Console | None = None,
        track: Sequence[str] = (),
    ) -> None:
        """Opens the files in `folder`; on a resume, cuts them at `start_step`.

        Args:
            folder: the run directory, made where it is missing.
            total_steps: agent steps of the whole run.
            description: the run's hyper-parameters, flat, for TensorBoard.
            start_step: agent steps at which this process begins; what was logged
                beyond it is forgotten, so that no point appears twice.
            console: where to show progress; the standard output by default.
            track: experiment trackers that take the log as well, by name.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._terminal = Terminal(total_steps, console, start_step)
        self._table = Table(folder / METRICS_FILE, start_step)
        self._evaluations = Table(folder / EVALUATIONS_FILE, start_step, EVALUATION)
        self._events = EventFile(folder, description, start_step)
        self._trackers = Trackers(track, folder, description, self.note)
        for note in (*self._table.notes, *self._events.notes):
            self._terminal.note(note)

    def log(self, progress: Progress) -> None:
        """Writes and shows one log line.

        Raises:
            OSError: the disk is full, say.
        """
        numbers = progress.numbers()
        self._table.append(progress.step, numbers)
        self._events.append(progress.step, numbers)
        self._terminal.show(progress)
        self._trackers.log(progress.step, numbers)

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Writes pictures for TensorBoard, by name.

        Raises:
            OSError: the disk is full, say.
        """
        if pictures:
            self._events.show(step, pictures)
            self._trackers.show(step, pictures)

    def evaluated(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes one evaluation to TensorBoard and, as a row, to `evaluations.csv`.

        Raises:
            OSError: the disk is full, say.
        """
        self._events.append(step, {EVALUATION + name: value for name, value in numbers.items()})
        # Last: the row tells a run that continues that nothing of this evaluation is missing.
        self._evaluations.append(step, numbers)

    def tick(self, step: int, seconds: float) -> None:
        """Keeps the live line moving between two log lines; writes nothing.

        Args:
            step: agent steps so far.
            seconds: since this process began to train.
        """
        self._terminal.tick(step, seconds)

    def note(self, text: str) -> None:
        """Prints a line of text without disturbing the live line."""
        self._terminal.note(text)

    def close(self) -> None:
        """Leaves the last log line on the screen and closes the files."""
        self._terminal.close()
        try:
            self._table.close()
            self._evaluations.close()
        finally:
            self._events.close()
            self._trackers.close()

    def __enter__(self) -> "Report":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError:
            # Files that could not be written cannot be closed well either: say it once.
            if error is None:
                raise


class NoReport:
    """Writes and prints nothing: for all processes but the one that reports."""

    def log(self, progress: Progress) -> None:
        """Ignores a log line."""

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Ignores pictures."""

    def evaluated(self, step: int, numbers: Mapping[str, float]) -> None:
        """Ignores an evaluation."""

    def tick(self, step: int, seconds: float) -> None:
        """Ignores the progress."""

    def note(self, text: str) -> None:
        """Ignores the text."""

    def __enter__(self) -> "NoReport":
        return self

    def __exit__(self, *exception: object) -> None:
        pass
