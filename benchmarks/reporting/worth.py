"""What heads are worth: arms with one beside the arm without, table and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float

from benchmarks.reporting.estimates import bootstrap_band
from benchmarks.reporting.harm import ALONE, Result, Verdict, judge
from benchmarks.reporting.look import COLOURS, tidy

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

POINTS = 50
"""Of a curve: means over equal parts of the steps."""
PANELS = 4
"""In a row of the figure."""


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


def verdicts(outcomes: Sequence[Outcome], measure: str) -> dict[Arm, Verdict]:
    """Compares each arm with the one without a head, by `final` or `whole`.

    Raises:
        ValueError: an arm lacks a seed.
    """
    arms = {name(each.head, each.gate): (each.head, each.gate) for each in outcomes}
    results = [
        Result(
            name(each.head, each.gate),
            each.seed,
            getattr(each, measure),
            each.cosine,
            each.passed,
        )
        for each in outcomes
    ]
    found = {arms[verdict.arm]: verdict for verdict in judge(results)}
    return {arm: found[arm] for arm in arms.values()}


def name(head: str, gate: str) -> str:
    """Of an arm."""
    return f"{head}, {gate}" if gate else head


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of `summary.csv`, in the order of the arms.

    Raises:
        ValueError: an arm lacks a seed.
    """
    measures = ("final", "whole")
    columns = [
        f"{measure}{part}"
        for measure in measures
        for part in ("", "_difference", "_low", "_high", "_verdict")
    ]
    lines = [",".join(["head,gate,seeds", *columns, "cosine,passed"])]
    by_measure = [verdicts(outcomes, measure) for measure in measures]
    for head, gate in by_measure[0]:
        cells = [head, gate]
        for index, each in enumerate(by_measure):
            verdict = each[head, gate]
            cells += [str(len(verdict.finals))] if index == 0 else []
            cells += [f"{verdict.finals.mean():.3f}", f"{verdict.difference:.3f}"]
            ends = ("", "")
            if verdict.interval is not None:
                ends = (f"{verdict.interval.low:.3f}", f"{verdict.interval.high:.3f}")
            cells += [*ends, verdict.word]
        last = by_measure[0][head, gate]
        cells += ["" if np.isnan(x) else f"{x:.3f}" for x in (last.cosine, last.passed)]
        lines.append(",".join(cells))
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
                words.append(f"{gate} {verdict.difference:+.2f} {verdict.word}")
        axes.set_title(f"{head}\n" + "; ".join(words), fontsize=8)
        tidy(axes)
    for axes in panels.flat[len(heads) :]:
        axes.set_axis_off()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9
    )
    figure.supxlabel(
        "million agent steps; band: 95 % bootstrap interval of the mean\n"
        "numbers: difference of the mean return over the whole run from main only",
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
