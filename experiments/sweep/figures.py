"""`sweep.png`: learning curves, one row per setting, one column per temperature."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs.programs import SweepConfig
from experiments.figures import BLUE, VERMILLION, inks, tidy
from experiments.statistics import Difference
from experiments.sweep.arms import MAIN, SweepArm, Teaching, teachings
from experiments.sweep.summary import Summary

Curve = Float[np.ndarray, "points 4"]
"""Steps, mean return over worlds, and the two ends of its interval."""


@dataclass(frozen=True)
class Tables:
    """What the tables of a sweep hold and its figures show."""

    config: SweepConfig
    summary: Summary
    curves: Mapping[SweepArm, Curve]


# `finals.png`: how far above or below main-only learning each gate ends, under each teacher.

WORSE, SAME, BETTER = VERMILLION, "#999999", BLUE

TEACHERS = {"cross": "teacher of another world", "same": "teacher of its own world"}


def draw_finals(tables: Tables) -> Figure:
    """Draws the figure: one panel per teacher, one line per gate, the safest gate at the top."""
    ways, gates = teachings(tables.config), tables.config.gates
    found = {way: _above_main(tables, way) for way in ways}
    worst = [min(found[way][gate].value for way in ways) for gate in range(len(gates))]
    order = np.argsort(worst, kind="stable")
    size = (2.0 + 1.9 * len(ways), 1.5 + 0.24 * len(gates))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True, squeeze=False)[0]
    for axes, way in zip(panels, ways, strict=True):
        _draw_finals_panel(axes, [found[way][gate] for gate in order])
        axes.set_title(f"{TEACHERS[way.setting]}\ntemperature {way.temperature:g}", fontsize=9)
    panels[0].set_yticks(range(len(gates)), [gates[gate] for gate in order], fontsize=8)
    figure.supxlabel("final return above that of main-only learning; bars: 95 %", fontsize=9)
    figure.suptitle(heading(tables.config), fontsize=10)
    return figure


def _above_main(tables: Tables, way: Teaching) -> list[Difference]:
    found = [tables.summary.of(gate, way).final_against_main for gate in tables.config.gates]
    return [difference for difference in found if difference is not None]


def _draw_finals_panel(axes: Axes, found: list[Difference]) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for place, difference in enumerate(found):
        ink = (WORSE, SAME, BETTER)[difference.sign + 1]
        axes.plot([difference.low, difference.high], [place, place], color=ink, linewidth=2)
        axes.plot(difference.value, place, "o", color=ink, markersize=4)
    tidy(axes)
    axes.tick_params(labelsize=8)


MEANINGS = {
    "cross": "teacher of the world before\nits rewards were changed",
    "same": "teacher of the student's own world",
}

NEAR = 0.05
"""Fraction of the way from random to the optimum; labels of lines nearer than this overlap."""


def draw(tables: Tables) -> Figure:
    """Draws the figure."""
    config = tables.config
    rows, columns = len(config.settings), len(config.temperatures)
    figure = Figure(figsize=(1.6 + 2.9 * columns, 1.9 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for across, setting in zip(panels, config.settings, strict=True):
        across[0].set_ylabel(f"{setting}: {MEANINGS[setting]}\nexpected return", fontsize=9)
        for axes, temperature in zip(across, config.temperatures, strict=True):
            _draw_panel(axes, tables, Teaching(setting, temperature))
    for axes, temperature in zip(panels[0], config.temperatures, strict=True):
        greedy = " (greedy)" if temperature == 0 else ""
        axes.set_title(f"temperature {temperature:g}{greedy}", fontsize=10)
    for axes in panels[-1]:
        played = config.gradients == "sampled"
        axes.set_xlabel("agent steps of each student" if played else "updates", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    lines = ceil(len(labels) / (2 * columns))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=ceil(len(labels) / lines),
        frameon=False,
    )
    figure.suptitle(_title(tables), fontsize=10, wrap=True)
    return figure


def heading(config: SweepConfig) -> str:
    """What the sweep did, in one line."""
    return (
        f"Distillation as an auxiliary loss in {config.num_worlds:,} partially observable "
        f"gridworlds, {config.gradients} gradients"
    )


def _title(tables: Tables) -> str:
    return (
        f"{heading(tables.config)}\n"
        f"lines: mean exact return over worlds; bands: 95 % bootstrap intervals; "
        f"of {tables.summary.cells:.0f} cells {tables.summary.aliased:.0f} look like another one"
    )


def _draw_panel(axes: Axes, tables: Tables, teaching: Teaching) -> None:
    arms = [SweepArm(MAIN, None), *(SweepArm(gate, teaching) for gate in tables.config.gates)]
    for arm, ink in zip(arms, inks([arm.gate for arm in arms]), strict=True):
        steps, mean, low, high = tables.curves[arm].T
        axes.plot(steps, mean, ink.dashes, color=ink.colour, linewidth=1.6, label=arm.gate)
        axes.fill_between(steps, low, high, color=ink.colour, alpha=0.15, linewidth=0)
    for name, level in _levels(tables.summary, teaching).items():
        axes.axhline(level, color="black", linestyle=":", linewidth=1.0)
        # Curves rarely run above the optimum or just below the other lines.
        above = name.startswith("optimum")
        axes.annotate(
            name,
            (0.99, level),
            (0, 2 if above else -2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="bottom" if above else "top",
            fontsize=7,
        )
    axes.margins(x=0)
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if value >= 1e4 else f"{value:g}"
    )
    tidy(axes)


def _levels(summary: Summary, teaching: Teaching) -> dict[str, float]:
    """The dotted lines by their names; a teacher near the optimum shares its label."""
    optimum, idle = summary.optimum.value, summary.random.value
    teacher = summary.teachers[teaching].value
    if optimum - teacher < NEAR * (optimum - idle):
        return {"optimum, teacher": optimum, "": teacher, "random policy": idle}
    return {"optimum": optimum, "teacher": teacher, "random policy": idle}
