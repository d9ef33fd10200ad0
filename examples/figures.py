"""The figures of the examples: paths of every gate, and means with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import colour, inks, tidy
from experiments.statistics import bootstrap_means

COLUMNS = 6
SHADES = np.linspace(-1.0, 1.0, 9)
"""Of cosines."""


@dataclass(frozen=True)
class Landscape:
    """What lies under paths in the plane, on a square around the origin."""

    edge: float
    """Of the square: half its length."""
    height: Float[np.ndarray, "grid grid"]
    """Of the main loss; y first."""
    agreement: Float[np.ndarray, "grid grid"]
    """Cosine of main and auxiliary gradient."""


@dataclass(frozen=True)
class Line:
    """What was measured at some places, once per seed."""

    name: str
    place: Sequence[int | float]
    values: Float[np.ndarray, "seeds places"]


Panels = Mapping[str, Sequence[Line]]
"""Lines by the panel's name."""


def draw_paths(
    title: str,
    paths: Mapping[str, Float[np.ndarray, "N S D"]],
    goal: Sequence[float],
    landscape: Landscape | None,
) -> Figure:
    """Draws a panel for each gate.

    Args:
        title: of the figure.
        paths: of S starts in N - 1 steps, by gate.
        goal: where the main loss, or the best of its minima, is.
        landscape: of a plane; none for paths on a line, which are drawn by step.
    """
    num_rows = ceil(len(paths) / COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 0.7 + 2.4 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, gate in zip_longest(panels.flat, paths):
        if gate is None:
            axes.set_axis_off()
        elif landscape is None:
            axes.set_title(gate, fontsize=10)
            axes.plot(paths[gate][..., 0], color=colour(1), linewidth=0.8)
            axes.axhline(goal[0], color=colour(2), linestyle=":")
            tidy(axes)
        else:
            axes.set_title(gate, fontsize=10)
            _draw_landscape(axes, landscape)
            axes.plot(paths[gate][..., 0], paths[gate][..., 1], color="black", linewidth=0.6)
            axes.plot(*paths[gate][-1].T, "*", color=colour(2), markersize=8, clip_on=True)
            axes.plot(*goal, "+", color=colour(1), markersize=11, markeredgewidth=1.5)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_landscape(axes: Axes, landscape: Landscape) -> None:
    edge = landscape.edge
    grid = np.linspace(-edge, edge, len(landscape.height))
    # Few colours: the files are a fifth as large as with smooth ones.
    # Rounding must not put a cosine of 1 or -1 outside of all shades.
    agreement = landscape.agreement.clip(-0.999, 0.999)
    axes.contourf(grid, grid, agreement, SHADES, cmap="PiYG", vmin=-1.5, vmax=1.5)
    axes.contour(grid, grid, landscape.height, 9, colors="white", linewidths=0.5)
    # Paths that diverge leave the panel.
    axes.set(xlim=(-edge, edge), ylim=(-edge, edge))


def draw_lines(
    title: str,
    panels: Panels,
    x: str,
    y: str = "",
    logarithmic: bool = False,
    ticks: Sequence[str] = (),
) -> Figure:
    """Draws a panel for each set of lines: means over seeds with 95 % bootstrap intervals.

    Args:
        title: of the figure.
        panels: lines by the panel's name; a line has the same colour in all.
        x: what places are.
        y: what values are, in all panels; if they differ, the panels' names say it.
        logarithmic: whether places are.
        ticks: what places 0, 1 and so on stand for, if they are no numbers.
    """
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines))
    ink_of = dict(zip(names, inks(names), strict=True))
    figure = Figure(figsize=(4.8 * len(panels), 4.4), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=y != "", squeeze=False)[0]
    for axes, (name, lines) in zip(all_axes, panels.items(), strict=True):
        for line in lines:
            low, high = bootstrap_means(line.values)
            ink = ink_of[line.name]
            style = {"color": ink.colour, "linestyle": ink.dashes}
            axes.plot(line.place, line.values.mean(0), label=line.name, marker=".", **style)
            axes.fill_between(line.place, low, high, color=ink.colour, alpha=0.15, linewidth=0)
        axes.set(xlabel=x, xscale="log" if logarithmic else "linear")
        axes.set_title(name, fontsize=10)
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks)
        tidy(axes)
    all_axes[0].set_ylabel(y)
    handles = {
        label: handle
        for axes in all_axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=11)
    return figure


def draw_courses(panels: Panels) -> Figure:
    """Draws cosines over the steps of learning."""
    title = "Learning through cosine\nbands: 95 % bootstrap intervals over seeds"
    return draw_lines(title, panels, x="step", y="cosine of the gradients")


def rows_of(panels: Panels) -> list[dict[str, str]]:
    """The table of lines: a row for each place and seed."""
    return [
        {"panel": panel, "line": line.name, "seed": str(seed)}
        | {"place": f"{place:g}", "value": f"{value:.5g}"}
        for panel, lines in panels.items()
        for line in lines
        for seed, values in enumerate(line.values)
        for place, value in zip(line.place, values, strict=True)
    ]


def panels_of(rows: Iterable[Mapping[str, str]]) -> Panels:
    """Reads what `rows_of` wrote."""
    found: dict[str, dict[str, dict[str, dict[float, float]]]] = {}
    for row in rows:
        seeds = found.setdefault(row["panel"], {}).setdefault(row["line"], {})
        seeds.setdefault(row["seed"], {})[float(row["place"])] = float(row["value"])
    return {
        panel: [
            Line(
                name,
                list(next(iter(seeds.values()))),
                np.array([list(values.values()) for values in seeds.values()]),
            )
            for name, seeds in lines.items()
        ]
        for panel, lines in found.items()
    }
