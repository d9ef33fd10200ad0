"""`sweep.png`: learning curves, one row per setting, one column per temperature."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import BLUE, VERMILLION, inks, tidy
from experiments.statistics import Difference, bootstrap_means, differences
from experiments.sweep.arms import MAIN, SweepArm, Teaching, teachings
from experiments.sweep.folder import Results

# `finals.png`: how far above or below main-only learning each gate ends, under each teacher.

WORSE, SAME, BETTER = VERMILLION, "#999999", BLUE

TEACHERS = {"cross": "teacher of another world", "same": "teacher of its own world"}


def draw_finals(results: Results) -> Figure:
    """Draws the figure: one panel per teacher, one line per gate, the safest gate at the top."""
    ways, gates = teachings(results.config), results.config.gates
    found = {way: differences(_above_main(results, way)) for way in ways}
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
    figure.suptitle(heading(results), fontsize=10)
    return figure


def write_finals(results: Results, path: Path) -> None:
    """Draws the figure into a file, the same bytes for the same results."""
    save(draw_finals(results), path)


def _above_main(results: Results, way: Teaching) -> Float[np.ndarray, "W gates"]:
    final, places = results.final(), {arm: place for place, arm in enumerate(results.arms)}
    taught = [final[places[SweepArm(gate, way)]] for gate in results.config.gates]
    return np.asarray(np.stack(taught, 1) - final[places[SweepArm(MAIN, None)]][:, None])


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


def draw(results: Results) -> Figure:
    """Draws the figure."""
    config = results.config
    rows, columns = len(config.settings), len(config.temperatures)
    figure = Figure(figsize=(1.6 + 2.9 * columns, 1.9 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for across, setting in zip(panels, config.settings, strict=True):
        across[0].set_ylabel(f"{setting}: {MEANINGS[setting]}\nexpected return", fontsize=9)
        for axes, temperature in zip(across, config.temperatures, strict=True):
            _draw_panel(axes, results, Teaching(setting, temperature))
    for axes, temperature in zip(panels[0], config.temperatures, strict=True):
        greedy = " (greedy)" if temperature == 0 else ""
        axes.set_title(f"temperature {temperature:g}{greedy}", fontsize=10)
    for axes in panels[-1]:
        played = config.gradients == "sampled"
        axes.set_xlabel("agent steps of each student" if played else "updates", fontsize=9)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(config.gates) + 1, 2 * columns),
        frameon=False,
    )
    figure.suptitle(_title(results), fontsize=10, wrap=True)
    return figure


def write(results: Results, path: Path) -> None:
    """Draws the figure into a file, the same bytes for the same results."""
    save(draw(results), path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure of a sweep without the version of matplotlib, which is no result."""
    figure.savefig(path, dpi=160, metadata={"Software": None})


def heading(results: Results) -> str:
    """What the sweep did, in one line."""
    return (
        f"Distillation as an auxiliary loss in {results.num_worlds:,} partially observable "
        f"gridworlds, {results.config.gradients} gradients"
    )


def _title(results: Results) -> str:
    aliased, cells = results.aliased.mean(), results.cells.mean()
    return (
        f"{heading(results)}\n"
        f"lines: mean exact return over worlds; bands: 95 % bootstrap intervals; "
        f"of {cells:.0f} cells {aliased:.0f} look like another one"
    )


def _draw_panel(axes: Axes, results: Results, teaching: Teaching) -> None:
    gates = [(MAIN, None), *((gate, teaching) for gate in results.config.gates)]
    for (gate, way), ink in zip(gates, inks([gate for gate, _ in gates]), strict=True):
        curves = results.curves(gate, way)
        low, high = bootstrap_means(curves.T)
        axes.plot(
            results.steps,
            curves.mean(1),
            linestyle=ink.dashes,
            color=ink.colour,
            linewidth=1.6,
            label=gate,
        )
        axes.fill_between(results.steps, low, high, color=ink.colour, alpha=0.15, linewidth=0)
    for name, level in _levels(results, teaching).items():
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


def _levels(results: Results, teaching: Teaching) -> dict[str, float]:
    """The dotted lines by their names; a teacher near the optimum shares its label."""
    optimum, idle = float(results.optimum.mean()), float(results.random.mean())
    teacher = float(results.taught_by(teaching).mean())
    if optimum - teacher < NEAR * (optimum - idle):
        return {"optimum, teacher": optimum, "": teacher, "random policy": idle}
    return {"optimum": optimum, "teacher": teacher, "random policy": idle}
