"""`yardstick.png`: harm let in against help kept, one panel for each kind of task and measure."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

from experiments.figures import BLUE, GREEN, PINK, VERMILLION, tidy
from experiments.statistics import Estimate
from experiments.studies.shares import HARMS, HELPS, OPEN, REFERENCE, SUM, Share, Task

TITLES = {
    "tabular": "tabular students, sampled gradients",
    "network": "a network on the gridworld",
}
SOURCES = {"tabular": ("tabular", "tabular symmetric"), "network": ("network",)}
"""What a panel shows; heads have no H, so they have no place in it."""
AREA, FINAL = "area", "final"
ACROSS = {AREA: "mean return over the run", FINAL: "return at the end"}
LINEAR = 0.1
"""Up to so much harm the scale is linear, beyond logarithmic: the best gates are told apart."""
TICKS = (-0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1, 2)
INKS = {REFERENCE: BLUE, "bounded": GREEN, "sum where ahead": PINK, SUM: VERMILLION}
OTHERS = "#777777"
SIZE = 7.5
"""Of a gate's name, in points."""
FAR = 16
"""A name that is further from its point, in points, is joined to it by a line."""

Point = tuple[str, Estimate, Estimate]
"""A gate, its H and its L."""


def draw(shares: Sequence[Share], tasks: Sequence[Task]) -> Figure:
    """Draws the figure.

    Args:
        shares: of all gates.
        tasks: that were measured, for the titles.
    """
    kinds = [kind for kind in TITLES if any(_of(share.source, kind) for share in shares)]
    figure = Figure(figsize=(12, 0.9 + 5.1 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for across, kind in zip(panels, kinds, strict=True):
        for axes, measure in zip(across, ACROSS, strict=True):
            points = _points(shares, kind, measure)
            _draw_panel(axes, points)
            counted = [task for task in tasks if _of(task.source, kind) and task.measure == measure]
            axes.set_title(f"{TITLES[kind]}: {ACROSS[measure]}\n{_counted(counted)}", fontsize=10)
    figure.suptitle(
        "Shares of an auxiliary's help and harm that pass a gate; bars: 95 % bootstrap intervals",
        fontsize=11,
    )
    # Labels are placed where nothing is, which depends on the layout.
    figure.draw_without_rendering()
    for across, kind in zip(panels, kinds, strict=True):
        for axes, measure in zip(across, ACROSS, strict=True):
            _label(axes, _points(shares, kind, measure))
    return figure


def _of(source: str, kind: str) -> bool:
    return source in SOURCES[kind]


def _points(shares: Sequence[Share], kind: str, measure: str) -> list[Point]:
    """The gates of a panel, each once: the first source that has a gate stands for it."""
    found: dict[str, dict[str, Estimate]] = {}
    for share in shares:
        if _of(share.source, kind) and share.measure == measure and not share.task:
            found.setdefault(share.gate, {}).setdefault(share.share, share.value)
    return [
        (gate, both[HELPS], both[HARMS])
        for gate, both in found.items()
        if both.keys() == {HELPS, HARMS}
    ]


def _counted(tasks: Sequence[Task]) -> str:
    said = []
    for kind in (HELPS, HARMS, OPEN):
        number = len({task.task for task in tasks if task.kind == kind})
        verb = {HELPS: "help", HARMS: "harm", OPEN: "open"}[kind]
        said.append(f"{number} {verb}")
    units = max((task.units for task in tasks), default=0)
    over = "worlds" if any(_of(task.source, "tabular") for task in tasks) else "seeds"
    return f"tasks: {', '.join(said)}; {units} {over}"


def _ink(gate: str) -> str:
    return INKS.get(gate, INKS["bounded"] if gate.startswith("bounded") else OTHERS)


def _draw_panel(axes: Axes, points: Sequence[Point]) -> None:
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=1.2)
    for gate, kept, let in points:
        ink = _ink(gate)
        style: dict[str, Any] = {"color": ink, "linewidth": 1.0, "alpha": 0.45, "zorder": 1}
        axes.plot([kept.low, kept.high], [let.value, let.value], **style)
        axes.plot([kept.value, kept.value], [let.low, let.high], **style)
        axes.plot(kept.value, let.value, "o", color=ink, markersize=5 if ink != OTHERS else 4)
    axes.plot(1, 0, "*", color="black", markersize=13, zorder=3)
    values = [kept.value for _, kept, _ in points]
    harms = [let.value for _, _, let in points]
    axes.set_xlim(min([0.0, *values]) - 0.08, max([1.0, *values]) + 0.25)
    # Less harm is higher: the ideal is at the top right.
    axes.set_ylim(max([1.0, *harms]) * 1.6, 1.4 * min([-0.05, *harms]) - 0.03)
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.axhline(0, color="black", linewidth=0.6)
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set_xlabel("help kept, H (more is better)", fontsize=9)
    axes.set_ylabel("harm let in, L (less is better)", fontsize=9)
    tidy(axes)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Writes the gates' names next to their points, where they cover nothing."""
    places = [axes.transData.transform((kept.value, let.value)) for _, kept, let in points] + [
        axes.transData.transform((1, 0))
    ]
    names = [gate for gate, _, _ in points] + ["ideal"]
    frame = axes.get_window_extent()
    unit = axes.figure.dpi / 72
    taken = [Bbox.from_bounds(x - 4 * unit, y - 4 * unit, 8 * unit, 8 * unit) for x, y in places]
    bars = [bar for point in points for bar in _bars(axes, point)]
    # Those that the figure is about choose first, then those in the thick of it.
    crowd = [sum(np.hypot(*(place - other)) < 60 * unit for other in places) for place in places]
    order = sorted(range(len(names)), key=lambda n: (_rank(names[n]), -crowd[n]))
    for number in order:
        name, (x, y) = names[number], places[number]
        weight = "bold" if _rank(name) == 0 else "normal"
        written = TextPath((0, 0), name, SIZE, prop=FontProperties(weight=weight))
        width, height = written.get_extents().width * unit + 2, 1.15 * SIZE * unit
        for covered, (across, up) in product((taken + bars, taken), _offsets()):
            left = x + across * unit - (width if across < 0 else width / 2 if across == 0 else 0)
            box = Bbox.from_bounds(left, y + up * unit - height / 2, width, height)
            inside = frame.x0 < box.x0 and box.x1 < frame.x1
            inside = inside and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not any(box.overlaps(other) for other in covered):
                break
        taken.append(box)
        middle = axes.transAxes.inverted().transform((box.x0, (box.y0 + box.y1) / 2))
        point = axes.transData.inverted().transform((x, y))
        text = axes.annotate(
            name,
            (point[0], point[1]),
            (middle[0], middle[1]),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=SIZE,
            color="black" if name == "ideal" else _ink(name),
            weight=weight,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": OTHERS}
            if np.hypot(across, up) > FAR
            else None,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        text.set_in_layout(False)


def _bars(axes: Axes, point: Point) -> list[Bbox]:
    """What the intervals of a point cover."""
    _, kept, let = point
    ends = [
        [(kept.low, let.value), (kept.high, let.value)],
        [(kept.value, let.low), (kept.value, let.high)],
    ]
    return [Bbox(axes.transData.transform(pair)).padded(1) for pair in ends]


def _rank(name: str) -> int:
    return 0 if name == "ideal" or _ink(name) != OTHERS else 1


def _offsets() -> list[tuple[float, float]]:
    """Places of a label around its point, in points, the nearest first."""
    turns = np.deg2rad([45, 315, 135, 225, 0, 180, 90, 270, 20, 340, 160, 200])
    return [
        (float(np.round(radius * np.cos(turn), 6)), float(radius * np.sin(turn)))
        for radius in (8, 12, 16, 24, 34, 46, 60, 76, 94, 115)
        for turn in turns
    ]
