"""What heads are worth: arms with one beside the arm without, table and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float

from experiments.report.estimates import Paired, beside, bootstrap_band, holm
from experiments.report.figures import COLOURS, tidy
from experiments.studies.harm import ALONE

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

POINTS = 50
"""Of a curve: means over equal parts of the steps."""
PANELS = 4
"""In a row of the figure."""
LIKELY = 0.05
"""A corrected p-value below it is a verdict."""

Measure = Literal["final", "whole"]


@dataclass(frozen=True)
class Outcome:
    """One run."""

    head: str
    """`ALONE` for the run without."""
    gate: str
    seed: int
    final: float
    """Mean return in the last tenth of the steps."""
    whole: float
    """Mean return over all of them."""
    cosine: float
    """Mean over the run, between the gradients of head and main loss."""
    passed: float
    """Mean over the run, of the head's gradient."""
    seconds: float
    """Of processor time, all in all."""
    curve: Float[np.ndarray, " points"]
    """Mean returns; not a number where no episode had ended."""


Arm = tuple[str, str]
"""A head and a gate."""


@dataclass(frozen=True)
class Worth:
    """One arm beside the one without a head, in one measure."""

    mean: float
    beside: Paired
    p: float
    """Holm's: corrected for the number of arms."""

    @property
    def word(self) -> str:
        """What the difference shows."""
        if not self.p < LIKELY:
            return "open"
        return "helped" if self.beside.difference > 0 else "harmed"


def verdicts(outcomes: Sequence[Outcome], measure: Measure) -> dict[Arm, Worth]:
    """Compares each arm with the one without a head.

    Raises:
        ValueError: an arm lacks a seed.
    """
    arms = {name(each.head, each.gate): (each.head, each.gate) for each in outcomes}
    by_arm: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    for each in outcomes:
        by_arm[name(each.head, each.gate)][each.seed] = getattr(each, measure)
    compared = beside(by_arm, ALONE)
    del compared[ALONE]
    corrected = holm([each.p for each in compared.values()])
    return {
        arms[arm]: Worth(float(np.mean(list(by_arm[arm].values()))), compared[arm], p)
        for arm, p in zip(compared, corrected, strict=True)
    }


def name(head: str, gate: str) -> str:
    """Of an arm."""
    return f"{head}, {gate}" if gate else head


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of `summary.csv`, in the order of the arms.

    Raises:
        ValueError: an arm lacks a seed.
    """
    measures: tuple[Measure, ...] = ("final", "whole")
    columns = [
        f"{measure}{part}"
        for measure in measures
        for part in ("", "_difference", "_low", "_high", "_p", "_verdict")
    ]
    lines = [",".join(["head,gate,seeds", *columns, "cosine,passed"])]
    alone = [each for each in outcomes if each.head == ALONE]
    means = [f"{np.mean([getattr(each, measure) for each in alone]):.3f}" for measure in measures]
    lines.append(f"{ALONE},,{len(alone)},{means[0]},,,,,,{means[1]},,,,,,,")
    by_measure = [verdicts(outcomes, measure) for measure in measures]
    for head, gate in by_measure[0]:
        cells = [head, gate, str(len(alone))]
        for each in by_measure:
            worth = each[head, gate]
            interval = worth.beside.interval
            ends = [f"{interval.low:.3f}", f"{interval.high:.3f}"] if interval else ["", ""]
            cells += [f"{worth.mean:.3f}", f"{worth.beside.difference:.3f}", *ends]
            cells += [f"{worth.p:.4f}", worth.word]
        runs = [each for each in outcomes if (each.head, each.gate) == (head, gate)]
        logged = (np.mean([run.cosine for run in runs]), np.mean([run.passed for run in runs]))
        lines.append(",".join([*cells, *("" if np.isnan(x) else f"{x:.3f}" for x in logged)]))
    return lines


def draw(outcomes: Sequence[Outcome], steps: int, title: str, path: Path) -> None:
    """One panel per head: the curves of its gates and of the arm without a head."""
    heads = list(dict.fromkeys(each.head for each in outcomes if each.head != ALONE))
    gates = list(dict.fromkeys(each.gate for each in outcomes if each.head != ALONE))
    columns = min(PANELS, len(heads))
    rows = -(-len(heads) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(3.2 * columns + 0.4, 2.5 * rows + 1.1),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    judged = verdicts(outcomes, "whole")
    for axes, head in zip(panels.flat, heads, strict=False):
        _curve(axes, [each for each in outcomes if each.head == ALONE], steps, ALONE, COLOURS[0])
        words = []
        for gate, ink in zip(gates, (COLOURS[2], COLOURS[1], *COLOURS[3:]), strict=False):
            runs = [each for each in outcomes if (each.head, each.gate) == (head, gate)]
            if runs:
                _curve(axes, runs, steps, gate, ink)
                verdict = judged[head, gate]
                words.append(f"{gate} {verdict.beside.difference:+.3g} {verdict.word}")
        axes.set_title(f"{head}\n" + "; ".join(words), fontsize=8)
        tidy(axes)
    for axes in panels.flat[len(heads) :]:
        axes.set_axis_off()
    panels[0, 0].legend(loc="lower right", frameon=False, fontsize=8)
    figure.supxlabel(
        "million agent steps; band: 95 % bootstrap interval of the mean\n"
        "numbers: difference of the mean return over the whole run from main only; "
        "verdicts corrected for their number",
        fontsize=9,
    )
    figure.supylabel("episode return", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _curve(axes: Axes, runs: Sequence[Outcome], steps: int, label: str, ink: str) -> None:
    curves = np.stack([each.curve for each in runs])
    known = ~np.isnan(curves).any(0)
    at = (np.arange(POINTS) + 0.5)[known] * steps / POINTS / 1e6
    curves = curves[:, known]
    axes.plot(at, curves.mean(0), color=ink, linewidth=1.5, label=label)
    if len(runs) > 1:
        low, high = bootstrap_band(curves)
        axes.fill_between(at, low, high, color=ink, alpha=0.15, linewidth=0)
