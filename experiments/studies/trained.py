"""Training runs in this process that leave only their log."""

import contextlib
import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.logs.report import METRICS_FILE
from experiments.training.trainer import DONE, main

Row = dict[str, str]
"""A line of `metrics.csv`, by column."""


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
