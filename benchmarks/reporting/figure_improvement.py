"""`improvement.png`: where each arm ended, and how probably it beats the first."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.reporting.look import colour, tidy, wrap
from benchmarks.reporting.scores import FINAL, Comparison, Estimate, Summary
from benchmarks.reporting.tables import Report


def draw_improvement(report: Report) -> Figure:
    """Draws a row of two panels for each game, and for all of them."""
    first, order = report.arms[0].name, [arm.name for arm in report.arms]
    finals = [row for row in report.summaries if row.measure == FINAL]
    scopes = list(dict.fromkeys((row.env, row.unit) for row in finals))
    # One unit of each game: the raw score stands first.
    shown = dict(reversed(scopes))
    panels_of = [(env, unit) for env, unit in scopes if shown[env] == unit]
    height = 1.2 + 0.55 * len(order)
    figure = Figure(figsize=(9.5, 0.4 + height * len(panels_of)), layout="constrained")
    panels = figure.subplots(len(panels_of), 2, squeeze=False, width_ratios=(1.4, 1))
    for (left, right), (env, unit) in zip(panels, panels_of, strict=True):
        rows = [row for row in finals if (row.env, row.unit) == (env, unit)]
        beats = [
            row
            for row in report.comparisons
            if (row.against, row.env, row.measure) == (first, env, FINAL)
        ]
        _draw_finals(left, rows, order)
        left.set_title(f"{env}: final return", fontsize=10)
        left.set_xlabel(f"IQM over runs ({unit}); dots: single runs", fontsize=9)
        _draw_probabilities(right, beats, order)
        right.set_title(f"probability of ending above\n{first}", fontsize=10)
    figure.supxlabel(
        "Bar: 95 % stratified bootstrap interval. Hollow: no interval (a single run, or all "
        "resamples say the same).",
        fontsize=9,
    )
    return figure


def _draw_finals(axes: Axes, rows: Sequence[Summary], order: Sequence[str]) -> None:
    for row in rows:
        place = order.index(row.arm)
        axes.plot(
            row.values,
            [place + 0.22] * len(row.values),
            marker=".",
            linestyle="none",
            color=colour(place),
            alpha=0.5,
        )
        _draw_estimate(axes, row.iqm, place, "{:.3g}")
    _name_rows(axes, order)


def _draw_probabilities(axes: Axes, rows: Sequence[Comparison], order: Sequence[str]) -> None:
    axes.axvline(0.5, color="black", linewidth=0.8)
    for row in rows:
        _draw_estimate(axes, row.probability, order.index(row.arm), "{:.2f}")
    _name_rows(axes, [""] * len(order))
    axes.set_xlim(-0.04, 1.04)


def _draw_estimate(axes: Axes, estimate: Estimate, place: int, digits: str) -> None:
    ink = colour(place)
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
        digits.format(estimate.value),
        (estimate.value, place),
        (0, 7),
        textcoords="offset points",
        horizontalalignment="center",
        fontsize=8,
        color=ink,
    )


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [wrap(name) for name in names], fontsize=9)
    for index, label in enumerate(axes.get_yticklabels()):
        label.set_color(colour(index))
    # The first arm is read first.
    axes.set_ylim(len(names) - 0.4, -0.7)
    tidy(axes)
