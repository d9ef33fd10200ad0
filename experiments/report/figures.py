"""The figures of a report: `curves.png` and `improvement.png`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from experiments.figures import DASHES, Ink, inks, score_text, tidy
from experiments.report.arms import Arm
from experiments.report.runs import Run
from experiments.report.scores import FINAL, Comparison, Summary, games_of
from experiments.report.tables import Report
from experiments.statistics import Estimate, bootstrap_means

LABEL_WIDTH = 24
"""Characters in a line of a label."""
PHONE_WIDTH = 4.2
"""Inches of a figure that a phone shows without shrinking its letters."""
PHONE_LABEL_WIDTH = 14
_NO_BREAK = "\N{NO-BREAK SPACE}"


def wrap(name: str, width: int = LABEL_WIDTH) -> str:
    """Breaks an arm's name into lines, at its commas where that is enough."""
    unbroken = ", ".join(words.replace(" ", _NO_BREAK) for words in name.split(", "))
    return fill(unbroken, width).replace(_NO_BREAK, " ")


def spread(
    wanted: Sequence[float], heights: Sequence[float], low: float, high: float
) -> list[float]:
    """Moves the centres of labels apart until none overlaps, as little as can be.

    Args:
        wanted: where each label should be, in ascending order.
        heights: of each label.
        low: no label reaches below it.
        high: nor above it, if there is room at all.
    """
    # Minus its distance from the first label, each place must not lie below the one before:
    # those that do are pooled at their mean.
    gaps = [(first + second) / 2 for first, second in pairwise(heights)]
    offset = np.concatenate([[0.0], np.cumsum(gaps)])
    pools: list[list[float]] = []
    for value in np.asarray(wanted) - offset:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    flat = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    ceiling = high - heights[-1] / 2 - offset[-1]
    flat = np.maximum(np.minimum(flat, ceiling), low + heights[0] / 2)
    return [float(place) for place in flat + offset]


# `improvement.png`: where each arm ended, and its probability of beating the first.


EXPLAIN_INTERVALS = (
    "Bar: 95 % stratified bootstrap interval. Hollow: no interval (a single run, or all "
    "resamples say the same)."
)


def draw_improvement(report: Report, envs: Sequence[str] = (), phone: bool = False) -> Figure:
    """Draws a row of two panels for each game, and for all of them.

    Args:
        report: the numbers.
        envs: the games to draw, `ALL` among them; empty: each.
        phone: draw for a narrow screen, one panel below the other and without the caption.
    """
    first, order = report.arms[0].name, [arm.name for arm in report.arms]
    colours = [ink.colour for ink in inks_of(report.arms)]
    finals = [row for row in report.summaries if row.measure == FINAL]
    scopes = list(dict.fromkeys((row.env, row.unit) for row in finals))
    # One unit of each game: the raw score stands first.
    shown = dict(reversed(scopes))
    panels_of = [
        (env, unit) for env, unit in scopes if shown[env] == unit and (not envs or env in envs)
    ]
    height = 1.2 + 0.55 * len(order)
    if phone:
        rows_of_panels = 2 * len(panels_of)
        figure = Figure(figsize=(PHONE_WIDTH, height * rows_of_panels), layout="constrained")
        panels = figure.subplots(rows_of_panels, 1).reshape(-1, 2)
    else:
        figure = Figure(figsize=(9.5, 0.4 + height * len(panels_of)), layout="constrained")
        panels = figure.subplots(len(panels_of), 2, squeeze=False, width_ratios=(1.4, 1))
    names = [wrap(name, PHONE_LABEL_WIDTH if phone else LABEL_WIDTH) for name in order]
    for (left, right), (env, unit) in zip(panels, panels_of, strict=True):
        rows = [row for row in finals if (row.env, row.unit) == (env, unit)]
        beats = [
            row
            for row in report.comparisons
            if (row.against, row.env, row.measure) == (first, env, FINAL)
        ]
        _draw_finals(left, rows, order, colours)
        _name_rows(left, names, colours)
        left.set_title(f"{env}: final return", fontsize=10)
        left.set_xlabel(f"IQM over runs ({unit}); dots: single runs", fontsize=9)
        _draw_probabilities(right, beats, order, colours)
        _name_rows(right, names if phone else [""] * len(order), colours)
        right.set_title(f"probability of ending above\n{first}", fontsize=10)
    if not phone:
        figure.supxlabel(EXPLAIN_INTERVALS, fontsize=9)
    return figure


def inks_of(arms: Sequence[Arm]) -> list[Ink]:
    """How the lines of the arms are drawn, the same in all figures of a report."""
    return inks([arm.gate for arm in arms])


def _draw_finals(
    axes: Axes, rows: Sequence[Summary], order: Sequence[str], colours: Sequence[str]
) -> None:
    for row in rows:
        place = order.index(row.arm)
        axes.plot(
            row.values,
            [place + 0.22] * len(row.values),
            marker=".",
            linestyle="none",
            color=colours[place],
            alpha=0.5,
        )
        _draw_estimate(axes, row.iqm, place, score_text(row.iqm.value), colours[place])


def _draw_probabilities(
    axes: Axes, rows: Sequence[Comparison], order: Sequence[str], colours: Sequence[str]
) -> None:
    axes.axvline(0.5, color="black", linewidth=0.8)
    for row in rows:
        place = order.index(row.arm)
        text = f"{row.probability.value:.2f}"
        _draw_estimate(axes, row.probability, place, text, colours[place])
    axes.set_xlim(-0.04, 1.04)


def _draw_estimate(axes: Axes, estimate: Estimate, place: int, text: str, ink: str) -> None:
    known = estimate.interval is not None
    axes.plot(
        [estimate.value], [place], marker="o", color=ink, markerfacecolor=ink if known else "white"
    )
    if estimate.interval is not None:
        axes.plot(
            [estimate.interval.low, estimate.interval.high],
            [place] * 2,
            color=ink,
            linewidth=5,
            alpha=0.4,
            solid_capstyle="butt",
        )
    axes.annotate(
        text,
        (estimate.value, place),
        (0, 7),
        textcoords="offset points",
        horizontalalignment="center",
        fontsize=8,
        color=ink,
    )


def _name_rows(axes: Axes, names: Sequence[str], colours: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    for index, label in enumerate(axes.get_yticklabels()):
        label.set_color(colours[index])
    # The first arm is read first.
    axes.set_ylim(len(names) - 0.4, -0.7)
    tidy(axes)


# `curves.png`: return, cosine and passed while training.

BAND_REPLICATES = 2_000
POINTS = 200
ENOUGH_FOR_AN_INTERVAL = 3
LEGEND_WIDTH, LEGEND_INCHES = 40, 3.4
"""Characters in a line of a legend, and by how much a figure grows for it."""
LINE_HEIGHT = 0.036
"""Height of a label's line, as a fraction of the upper panel."""
MEANINGS = {
    "return": "episode return (raw score)",
    "cosine": "cosine(main, {head})",
    "passed": "passed: |added| / |gradient|",
}


@dataclass(frozen=True)
class Band:
    """The mean over an arm's runs, and the lower and upper edge of the area around it."""

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
        low, high = bootstrap_means(curves, BAND_REPLICATES)
    else:
        low, high = curves.min(0), curves.max(0)
    return Band(step, curves.mean(0), low, high)


def explain_bands(arms: Sequence[Arm]) -> str:
    """Says what the lines and the bands of the figure are."""
    counts = {len(runs) for arm in arms for runs in arm.runs.values()}
    kinds = {
        "95 % bootstrap interval of the mean": max(counts) >= ENOUGH_FOR_AN_INTERVAL,
        "range of two runs": 2 in counts,
        "none with one run": 1 in counts,
    }
    said = "; ".join(kind for kind, there in kinds.items() if there)
    return f"Line: mean over seeds. Band: {said}."


def draw_curves(
    arms: Sequence[Arm],
    teacher: float | None = None,
    envs: Sequence[str] = (),
    phone: bool = False,
) -> Figure:
    """Draws a column of panels for each game.

    Args:
        arms: in the order of their colours.
        teacher: a score to draw a line at, besides those that the runs name.
        envs: the games to draw; empty: each.
        phone: draw for a narrow screen, without the names of the lines and the caption.
    """
    rows = _rows(arms)
    envs = envs or games_of(arms)
    heights = [2.2, *[1.0] * (len(rows) - 1)]
    width, height = (PHONE_WIDTH, 1.6) if phone else (8.5, 2.0)
    size = (width * len(envs), 1.2 + height * sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    labelled = True
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
        _draw_teachers(top, runs, teacher)
        if phone:
            top.set_title(f"{env}: return while training", fontsize=10)
        else:
            top.set_title(f"{env}, {' and '.join(protocols)} protocol: return while training")
            labelled = _label_lines(top, arms, env) and labelled
        bottom.set_xlabel(_step_label(runs))
        bottom.xaxis.set_major_locator(MaxNLocator(3 if phone else 6, steps=[1, 2, 2.5, 5, 10]))
        bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if not phone:
        figure.supxlabel(explain_bands(arms), fontsize=9)
    if not labelled:
        _add_legend(figure, arms)
    return figure


def _rows(arms: Sequence[Arm]) -> dict[str, tuple[str, ...]]:
    """The columns of `metrics.csv` in each row of panels; rows that no run measured are left out.

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
    for arm, ink in zip(arms, inks_of(arms), strict=True):
        for column, dashes in zip(columns, DASHES, strict=False):
            curve = band(arm.runs.get(env, ()), column)
            if curve is None:
                continue
            # With several heads, dashes tell heads apart; else arms that share a colour.
            style = dashes if len(columns) > 1 else ink.dashes
            axes.plot(curve.step, curve.mean, style, color=ink.colour, linewidth=1.8)
            axes.fill_between(
                curve.step, curve.low, curve.high, color=ink.colour, alpha=0.18, linewidth=0
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
            f"teacher {score_text(score)}",
            (0.01, score),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
        )


def _label_lines(axes: Axes, arms: Sequence[Arm], env: str) -> bool:
    """Writes each arm's name next to its line, if there is room and every arm has its colour.

    Returns:
        Whether that is so.
    """
    ends = []
    for arm, ink in zip(arms, inks_of(arms), strict=True):
        curve = band(arm.runs.get(env, ()), "return")
        if curve is not None:
            text = f"{wrap(arm.name)}\n{_seeds(len(arm.runs[env]))}"
            ends.append((float(curve.mean[-1]), text, ink.colour))
    ends.sort()
    # Everything is drawn: from here on the limits stay.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = [(text.count("\n") + 1.5) * LINE_HEIGHT * (high - low) for _, text, _ in ends]
    if sum(heights) > high - low or len({colour for *_, colour in ends}) < len(ends):
        return False
    places = spread([end for end, _, _ in ends], heights, low, high)
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            verticalalignment="center",
        )
    return True


def _add_legend(figure: Figure, arms: Sequence[Arm]) -> None:
    """Names many arms in a legend to the right of the panels, which the figure is widened for."""
    handles = [Line2D([], [], color=i.colour, linestyle=i.dashes) for i in inks_of(arms)]
    names = []
    for arm in arms:
        counts = sorted({len(runs) for runs in arm.runs.values()})
        names.append(f"{wrap(arm.name, LEGEND_WIDTH)} ({_seeds(*counts)})")
    figure.set_figwidth(figure.get_figwidth() + LEGEND_INCHES)
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=9)


def _seeds(*counts: int) -> str:
    said = " or ".join(map(str, counts))
    return f"{said} seed{'s' if counts != (1,) else ''}"


def _step_label(runs: Sequence[Run]) -> str:
    frames = {run.config["env"].get("frame_skip") for run in runs}
    known = len(frames) == 1 and None not in frames
    return f"agent steps ({frames.pop()} frames each)" if known else "agent steps"
