"""Training runs in this process, of which only the log is kept."""

import contextlib
import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import train
from agents.logs.report import METRICS_FILE

Row = dict[str, str]
"""A line of `metrics.csv`, by column."""


def train_log(flags: Sequence[str]) -> list[Row]:
    """Trains once, without a word, and returns the lines of its log.

    Raises:
        ValueError: `train.py` refused or failed; holds what it said.
    """
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = train.main([*flags, "--run-dir", str(run)])
        if code != train.DONE:
            raise ValueError(said.getvalue().strip())
        with (run / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def average(column: str, rows: Sequence[Row]) -> float:
    """Mean of what was measured; not a number if nothing was."""
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
