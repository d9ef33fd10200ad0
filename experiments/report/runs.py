"""Runs as they are committed: one small CSV each, whose first lines say how it was made.

`thin.py` makes it from a run's folder.  Reports are made from these files
alone, so anyone can draw them again without the runs.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

FIRST_LINE = "# auxgate run 1"
LATE = 0.9
"""From this fraction of its steps on, a run's returns count as final."""

Curve = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Run:
    """One run: its curve, and what its first lines say."""

    path: Path
    about: Mapping[str, str]
    """Protocol, command, commit, hardware, packages, in words."""
    config: Mapping[str, Any]
    """As in `config.json`."""
    step: Curve
    """Agent steps at each point."""
    columns: Mapping[str, Curve]
    """By the names of `metrics.csv`; NaN where nothing was measured."""
    evaluation: Mapping[str, Any] | None = None
    """Mean and number of episodes that the trained policy was evaluated on."""
    teacher: float | None = None
    """Mean score of the teacher it learnt from."""

    @property
    def env(self) -> str:
        """The environment's name."""
        return str(self.config["choice"]["env"])

    @property
    def seed(self) -> int:
        """Runs of the same seed share environment seeds and initial weights."""
        return int(self.config["run"]["seed"])

    @property
    def steps(self) -> int:
        """Agent steps at its last point."""
        return int(self.step[-1])

    @property
    def finished(self) -> bool:
        """Whether it trained for as long as it was meant to."""
        return self.steps >= int(self.config["run"]["steps"])

    @property
    def final(self) -> float:
        """Mean return of the points in the last tenth of the steps."""
        step, values = self.measured("return")
        # Where nothing was measured so late, the last point stands for the rest.
        late = step >= min(LATE * self.steps, step[-1])
        return float(values[late].mean())

    @property
    def area(self) -> float:
        """Area under the curve of the return, divided by the steps it spans: how fast it learnt."""
        step, values = self.measured("return")
        if len(step) == 1:
            return float(values[0])
        return float(np.trapezoid(values, step) / (step[-1] - step[0]))

    def measured(self, column: str) -> tuple[Curve, Curve]:
        """Steps and values of the points where a column was measured."""
        values = self.columns.get(column, np.full(len(self.step), np.nan))
        there = ~np.isnan(values)
        return self.step[there], values[there]


def read(path: Path) -> Run:
    """Reads a run's CSV.

    Raises:
        ValueError: it is damaged.
    """
    return parse(path.read_text(encoding="utf-8"), path)


def parse(text: str, path: Path) -> Run:
    """The run that the text of a CSV tells of; `path` is where it lies or comes from.

    Raises:
        ValueError: it is damaged.
    """
    try:
        lines = text.splitlines()
        about = dict(line[2:].split(": ", 1) for line in lines[1:] if line.startswith("# "))
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        evaluation, teacher = about.pop("evaluation", ""), about.pop("teacher", "")
        run = Run(
            path=path,
            config=json.loads(about.pop("config")),
            evaluation=json.loads(evaluation) if evaluation else None,
            teacher=float(teacher) if teacher else None,
            about=about,
            step=np.array([float(row["step"]) for row in rows]),
            columns={
                name: np.array([float(row[name] or "nan") for row in rows])
                for name in rows[0]
                if name != "step"
            },
        )
        assert not np.isnan(run.final), "thin() refuses runs without a return"
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): make it again from its run") from error
    return run


def is_run(path: Path) -> bool:
    """Whether a file is a run's CSV."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip() == FIRST_LINE
