"""Whether a harmful head did harm: arms with it beside the arm without, table and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float

from experiments.report.estimates import Interval, beside
from experiments.report.figures import COLOURS, tidy

mpl.use("Agg")
import matplotlib.pyplot as plt

ALONE = "main only"
"""The arm without a head."""


@dataclass(frozen=True)
class Result:
    """One run."""

    arm: str
    seed: int
    final: float
    """Mean return in the last tenth of the steps."""
    cosine: float
    """Mean over the run, between the gradients of head and main loss."""
    passed: float
    """Mean over the run, of the head's gradient."""


@dataclass(frozen=True)
class Verdict:
    """One arm beside the one without a head."""

    arm: str
    finals: Float[np.ndarray, " seeds"]
    difference: float
    interval: Interval | None
    """Of the difference; none of a single seed, nor of the arm without a head."""
    cosine: float
    passed: float

    @property
    def word(self) -> str:
        """Whether the head did harm."""
        if self.arm == ALONE:
            return "-"
        if self.interval is None:
            return "unknown"
        if self.interval.high < 0:
            return "harmed"
        return "helped" if self.interval.low > 0 else "unharmed"


def judge(results: Sequence[Result]) -> list[Verdict]:
    """Compares each arm with the one without a head, the best first.

    Raises:
        ValueError: an arm lacks a seed.
    """
    by_arm: dict[str, dict[int, Result]] = {}
    for result in results:
        by_arm.setdefault(result.arm, {})[result.seed] = result
    finals = {arm: {seed: run.final for seed, run in runs.items()} for arm, runs in by_arm.items()}
    compared = beside(finals, ALONE)
    verdicts = [
        Verdict(
            arm,
            np.array([runs[seed].final for seed in by_arm[ALONE]]),
            compared[arm].difference,
            None if arm == ALONE else compared[arm].interval,
            float(np.mean([result.cosine for result in runs.values()])),
            float(np.mean([result.passed for result in runs.values()])),
        )
        for arm, runs in by_arm.items()
    ]
    return sorted(verdicts, key=lambda verdict: -verdict.finals.mean())


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The lines of `summary.csv`."""
    lines = ["arm,seeds,final,difference,low,high,verdict,cosine,passed"]
    for verdict in verdicts:
        low, high = ("", "")
        if verdict.interval is not None:
            low, high = f"{verdict.interval.low:.3f}", f"{verdict.interval.high:.3f}"
        cosine, passed = (
            "" if np.isnan(value) else f"{value:.3f}" for value in (verdict.cosine, verdict.passed)
        )
        lines.append(
            f"{verdict.arm},{len(verdict.finals)},{verdict.finals.mean():.3f},"
            f"{verdict.difference:.3f},{low},{high},{verdict.word},{cosine},{passed}"
        )
    return lines


def draw(verdicts: Sequence[Verdict], title: str, path: Path) -> None:
    """One line per arm: a point for each seed, the mean, and the interval around it."""
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.32 * len(verdicts)), layout="constrained")
    alone = next(verdict for verdict in verdicts if verdict.arm == ALONE).finals.mean()
    axes.axvline(alone, color="black", linewidth=0.8, linestyle=":")
    inks = {"harmed": COLOURS[2], "unharmed": COLOURS[1], "helped": COLOURS[3]}
    for place, verdict in enumerate(reversed(verdicts)):
        ink = inks.get(verdict.word, COLOURS[0])
        spots = np.full(len(verdict.finals), place)
        axes.plot(verdict.finals, spots, "o", color=ink, alpha=0.35, markersize=4)
        axes.plot(verdict.finals.mean(), place, "D", color=ink, markersize=6)
        if verdict.interval is not None:
            ends = [alone + verdict.interval.low, alone + verdict.interval.high]
            axes.plot(ends, [place, place], color=ink, linewidth=2)
    axes.set_yticks(
        range(len(verdicts)),
        [
            verdict.arm if verdict.arm == ALONE else f"{verdict.arm}: {verdict.word}"
            for verdict in reversed(verdicts)
        ],
    )
    axes.set_xlabel(
        "mean return in the last tenth of the steps\n"
        "bar: 95 % interval of the difference from main only, at the mean of main only"
    )
    axes.set_title(title, fontsize=10)
    tidy(axes)
    figure.savefig(path, dpi=140)
    plt.close(figure)
