"""`metrics.csv`: one line per log line, whole at every moment."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from agents.files import write_atomically
from agents.logs.progress import importance

LEADING = ("step", "seconds")


class Table:
    """Appends rows of named numbers to a CSV file.

    The first row decides the columns.  A name that comes later adds a column at the
    end: the file is then rewritten, once.
    """

    def __init__(self, path: Path, start_step: int = 0) -> None:
        """Opens the table, and cuts what another process wrote beyond `start_step`.

        Args:
            path: the file, made at the first row where there is none.
            start_step: agent steps at which this process begins.
        """
        self._path = path
        self._file: TextIO | None = None
        self._columns: list[str] = []
        if path.is_file():
            self._columns, rows = _read(path, start_step)
            if self._columns:
                self._rewrite(rows)

    def append(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes one row through to the disk; a cell is empty where nothing was measured."""
        cells = {"step": str(step)} | {name: _cell(value) for name, value in numbers.items()}
        new = sorted(cells.keys() - set(self._columns), key=importance)
        if new:
            rows = _read(self._path, step)[1] if self._columns else []
            leading = [name for name in LEADING if name in new]
            self._columns += leading + [name for name in new if name not in leading]
            self._rewrite(rows)
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


def _read(path: Path, last_step: int) -> tuple[list[str], list[list[str]]]:
    """The columns, and the whole rows up to `last_step`; none of either if it is no such table."""
    # A process killed in the middle of a row leaves a last line without an end.
    whole, newline, _ = path.read_text("utf-8", "replace").rpartition("\n")
    lines = list(csv.reader(io.StringIO(whole + newline)))
    if not lines or lines[0][:1] != ["step"]:
        return [], []
    columns = lines[0]
    return columns, [
        row
        for row in lines[1:]
        if len(row) == len(columns) and row[0].isdecimal() and int(row[0]) <= last_step
    ]


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: float) -> str:
    if value.is_integer():
        return f"{value:.0f}"
    return "" if math.isnan(value) else f"{value:.6g}"
