"""The scores of `evaluate.py` as a sentence, a table, and JSON or CSV files."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agents.rollout.evaluation import Scores
from agents.runtime.checkpoint import write_atomically
from envs.atari.games import REFERENCES
from experiments.statistics import bootstrap, mean

CSV_COLUMNS = (
    *("run", "env", "protocol", "trained_steps", "episodes", "seed", "precision"),
    *("mean", "interval_low", "interval_high", "median", "human_normalised", "optimum"),
)
HEADINGS = ("env (protocol)", "trained", "episodes", "mean", "95 % interval", "median")
INDENT, GAP, NARROWEST = 2, 2, 12
REPLICATES = 10_000
"""Bootstrap replicates of the mean over episodes."""


@dataclass(frozen=True)
class Result:
    """The scores of one policy, and how it was played."""

    run: str
    """As typed on the command line."""
    env: str
    protocol: str
    trained_steps: int
    seed: int
    precision: str
    scores: Scores

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean over episodes."""
        return interval_of(self.scores)

    @property
    def human_normalised(self) -> float | None:
        """0 for a random player, 1 for a human.

        None for an environment without references, and where an episode was cut: the references
        are scores of whole episodes.
        """
        reference = None if self.scores.unfinished else REFERENCES.get(self.env)
        return None if reference is None else reference.normalised(self.scores.mean)

    @property
    def of_optimum(self) -> float | None:
        """The mean as a fraction of the best policy's score; None where that is unknown."""
        optimum = self.scores.optimum
        return None if optimum is None else self.scores.mean / optimum

    def to_json(self) -> dict[str, Any]:
        """Everything except the path of the run, which may be moved."""
        return {
            "env": self.env,
            "protocol": self.protocol,
            "trained_steps": self.trained_steps,
            "episodes": len(self.scores.returns),
            "seed": self.seed,
            "precision": self.precision,
            "mean": self.scores.mean,
            "median": self.scores.median,
            "interval_95": list(self.interval),
            "human_normalised": self.human_normalised,
            "optimum": self.scores.optimum,
            "returns": list(self.scores.returns),
            "lengths": list(self.scores.lengths),
        }

    def summary(self) -> str:
        """A sentence with score, protocol and number of episodes."""
        low, high = self.interval
        text = (
            f"{self.env} ({self.protocol} protocol), {len(self.scores.returns)} episodes after "
            f"{self.trained_steps:,} steps: mean {self.scores.mean:.2f} "
            f"(95 % interval {low:.2f} to {high:.2f}), median {self.scores.median:.2f}"
        )
        if self.human_normalised is not None:
            text += f", human-normalised {100 * self.human_normalised:.0f} %"
        if self.of_optimum is not None:
            text += f", {100 * self.of_optimum:.0f} % of the optimum {self.scores.optimum:.2f}"
        return text + "."


def interval_of(scores: Scores) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean over episodes."""
    found = bootstrap(mean, [np.asarray(scores.returns)], replicates=REPLICATES)
    return found.low, found.high


class Scoreboard:
    """The results for the terminal: each run's name above its line, in the order given."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        """Lays the lines out for the width of the terminal; only the first column shrinks."""
        rows = [_cells(result) for result in self._results]
        # The last column compares with a human or with the optimum; no environment has both.
        of_optimum = any(result.of_optimum is not None for result in self._results)
        of_human = any(result.human_normalised is not None for result in self._results)
        headings = (*HEADINGS, "human" if not of_optimum else "ratio" if of_human else "optimum")
        first, *numbers = (
            max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)
        )
        room = options.max_width - INDENT - sum(GAP + width for width in numbers)
        widths = (min(first, max(room, NARROWEST)), *numbers)
        yield _line(headings, widths, indent=0)
        yield Text("-" * (INDENT + sum(widths) + GAP * len(numbers)), no_wrap=True)
        for result, row in zip(self._results, rows, strict=True):
            yield Text(result.run, "bold", overflow="fold")
            yield _line(row, widths, indent=INDENT)


def _cells(result: Result) -> tuple[str, ...]:
    low, high = result.interval
    human = result.human_normalised
    return (
        f"{result.env} ({result.protocol})",
        _count(result.trained_steps),
        f"{len(result.scores.returns):,}",
        _number(result.scores.mean),
        f"{_number(low)} to {_number(high)}",
        _number(result.scores.median),
        _percentage(result.of_optimum if human is None else human),
    )


def _line(cells: Sequence[str], widths: Sequence[int], indent: int) -> Table:
    """One line of the table; lines of the same widths are aligned."""
    first, *numbers = widths
    line = Table.grid(padding=(0, GAP, 0, 0))
    line.add_column(width=INDENT + first)
    for width in numbers:
        line.add_column(width=width, justify="right", no_wrap=True)
    name, *others = cells
    line.add_row(Padding(Text(name, overflow="fold"), (0, 0, 0, indent)), *map(Text, others))
    return line


def write_one(path: Path, result: Result) -> None:
    """Writes one result as JSON, or as CSV if the name ends in .csv."""
    _write(path, [result], result.to_json())


def write_all(path: Path, results: Sequence[Result]) -> None:
    """Writes several results as a JSON list, or as CSV if the name ends in .csv."""
    _write(path, results, [{"run": result.run} | result.to_json() for result in results])


def _write(path: Path, results: Sequence[Result], content: object) -> None:
    if path.suffix.lower() == ".csv":
        write_atomically(path, _csv(results).encode(errors="surrogateescape"))
    else:
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _csv(results: Sequence[Result]) -> str:
    """A line per result, without the scores of single episodes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for result in results:
        low, high = result.interval
        ends = {"interval_low": low, "interval_high": high}
        writer.writerow({"run": result.run} | result.to_json() | ends)
    return text.getvalue()


def _number(value: float) -> str:
    """Formats a score with fewer decimals the larger it is."""
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2
    return f"{value:,.{digits}f}" if math.isfinite(value) else str(value)


def _percentage(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:,.0f} %"


def _count(steps: int) -> str:
    """Formats steps in thousands or millions if there are that many."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if steps >= size:
            return f"{steps / size:.3g}{unit}"
    return str(steps)
