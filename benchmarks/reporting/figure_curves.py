"""`curves.png`: return, cosine and passed while training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from benchmarks.reporting.arms import Arm
from benchmarks.reporting.estimates import bootstrap_band
from benchmarks.reporting.look import colour, spread, tidy, wrap
from benchmarks.reporting.runs import Run
from benchmarks.reporting.scores import games_of

DASHES = ("-", "--", ":", "-.")
POINTS = 200
ENOUGH_FOR_AN_INTERVAL = 3
LINE_HEIGHT = 0.036
"""Of a label's line, as a fraction of the upper panel."""
MEANINGS = {
    "return": "episode return (raw score)",
    "cosine": "cosine(main, {head})",
    "passed": "passed: |added| / |gradient|",
}


@dataclass(frozen=True)
class Band:
    """The mean over an arm's runs, and what is drawn around it."""

    step: Float[np.ndarray, " points"]
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


def band(runs: Sequence[Run], column: str) -> Band | None:
    """One arm's curve: with the interval of its mean from 3 runs on, with the range of 2.

    None where no run has measured it.
    """
    measured = [curve for curve in (run.measured(column) for run in runs) if len(curve[0])]
    if not measured:
        return None
    # Runs log by the clock, so their points do not lie on the same steps.
    start, end = max(step[0] for step, _ in measured), min(step[-1] for step, _ in measured)
    step = np.linspace(start, max(start, end), POINTS)
    curves = np.stack([np.interp(step, *curve) for curve in measured])
    if len(curves) >= ENOUGH_FOR_AN_INTERVAL:
        low, high = bootstrap_band(curves)
    else:
        low, high = curves.min(0), curves.max(0)
    return Band(step, curves.mean(0), low, high)


def explain_bands(arms: Sequence[Arm]) -> str:
    """What lines and bands are."""
    counts = {len(runs) for arm in arms for runs in arm.runs.values()}
    kinds = {
        "95 % bootstrap interval of the mean": max(counts) >= ENOUGH_FOR_AN_INTERVAL,
        "range of two runs": 2 in counts,
        "none with one run": 1 in counts,
    }
    said = "; ".join(kind for kind, there in kinds.items() if there)
    return f"Line: mean over seeds. Band: {said}."


def draw_curves(arms: Sequence[Arm], teacher: float | None = None) -> Figure:
    """Draws a column of panels for each game.

    Args:
        arms: in their order.
        teacher: a score to draw a line at, beside those that the runs name.
    """
    rows = _rows(arms)
    envs = games_of(arms)
    heights = [2.2, *[1.0] * (len(rows) - 1)]
    figure = Figure(figsize=(8.5 * len(envs), 1.2 + 2.0 * sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(rows), len(envs), sharex="col", squeeze=False, height_ratios=heights
    )
    for index, env in enumerate(envs):
        for axes, (name, columns) in zip(panels[:, index], rows.items(), strict=True):
            _draw_panel(axes, arms, env, columns)
            head = columns[0].partition("/")[0] if len(columns) == 1 else "head"
            axes.set_ylabel(MEANINGS[name].format(head=head))
            if name == "cosine":
                axes.axhline(0, color="black", linewidth=0.6)
            if name == "passed":
                axes.set_ylim(bottom=0)
        top, bottom = panels[0, index], panels[-1, index]
        runs = [run for arm in arms for run in arm.runs.get(env, ())]
        protocols = sorted({run.about.get("protocol", "unknown") for run in runs})
        top.set_title(f"{env}, {' and '.join(protocols)} protocol: return while training")
        _draw_teachers(top, runs, teacher)
        _label_lines(top, arms, env)
        bottom.set_xlabel(_step_label(runs))
        bottom.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.supxlabel(explain_bands(arms), fontsize=9)
    return figure


def _rows(arms: Sequence[Arm]) -> dict[str, tuple[str, ...]]:
    """The columns of `metrics.csv` in each row of panels; rows that nobody measured are left out.

    Several heads share a panel.
    """
    runs = [run for arm in arms for of_game in arm.runs.values() for run in of_game]
    heads = list(dict.fromkeys(head for run in runs for head in run.config["choice"]["aux"]))
    found: dict[str, tuple[str, ...]] = {"return": ("return",)}
    for name in ("cosine", "passed"):
        columns = tuple(
            f"{head}/{name}"
            for head in heads
            if any(len(run.measured(f"{head}/{name}")[0]) for run in runs)
        )
        if columns:
            found[name] = columns
    return found


def _draw_panel(axes: Axes, arms: Sequence[Arm], env: str, columns: Sequence[str]) -> None:
    for index, arm in enumerate(arms):
        for column, dashes in zip(columns, DASHES, strict=False):
            curve = band(arm.runs.get(env, ()), column)
            if curve is None:
                continue
            axes.plot(curve.step, curve.mean, dashes, color=colour(index), linewidth=1.8)
            axes.fill_between(
                curve.step, curve.low, curve.high, color=colour(index), alpha=0.18, linewidth=0
            )
    if len(columns) > 1:
        for column, dashes in zip(columns, DASHES, strict=False):
            axes.plot([], [], dashes, color="grey", label=column.partition("/")[0])
        axes.legend(frameon=False, fontsize=8, ncols=len(columns))
    axes.margins(x=0)
    axes.set_xlim(left=0)
    tidy(axes)


def _draw_teachers(axes: Axes, runs: Sequence[Run], teacher: float | None) -> None:
    given = [] if teacher is None else [teacher]
    for score in sorted({*given, *(run.teacher for run in runs if run.teacher is not None)}):
        axes.axhline(score, color="black", linestyle=":", linewidth=1.2)
        axes.annotate(
            f"teacher {score:.3g}",
            (0.01, score),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
        )


def _label_lines(axes: Axes, arms: Sequence[Arm], env: str) -> None:
    """Writes each arm's name beside the end of its line."""
    ends = []
    for index, arm in enumerate(arms):
        curve = band(arm.runs.get(env, ()), "return")
        if curve is not None:
            count = len(arm.runs[env])
            text = wrap(arm.name) + f"\n{count} seed{'s' if count > 1 else ''}"
            ends.append((float(curve.mean[-1]), text, colour(index)))
    ends.sort()
    # Everything is drawn: from here on the limits stay.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = [(text.count("\n") + 1.5) * LINE_HEIGHT * (high - low) for _, text, _ in ends]
    places = spread([end for end, _, _ in ends], heights, low, high)
    for place, (_, text, ink) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=ink,
            fontsize=9,
            verticalalignment="center",
        )


def _step_label(runs: Sequence[Run]) -> str:
    frames = {run.config["env"].get("frame_skip") for run in runs}
    known = len(frames) == 1 and None not in frames
    return f"agent steps ({frames.pop()} frames each)" if known else "agent steps"
