"""`finals.png`: how far above or below main-only learning each gate ends, under each teacher."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs.sweeping.arms import MAIN, Arm, Teaching, teachings
from configs.sweeping.estimates import Difference, differences
from configs.sweeping.figure import heading, save
from configs.sweeping.results import Results

WORSE, SAME, BETTER = "#D55E00", "#999999", "#0072B2"
"""Of Okabe and Ito's colours: told apart with any colour vision."""

TEACHERS = {"cross": "teacher of another world", "same": "teacher of its own world"}


def draw(results: Results) -> Figure:
    """Draws the figure: one panel per teacher, one line per gate, the safest gate at the top."""
    ways, gates = teachings(results.config), results.config.gates
    found = {way: differences(_beside_main(results, way)) for way in ways}
    worst = [min(found[way][gate].mean for way in ways) for gate in range(len(gates))]
    order = np.argsort(worst, kind="stable")
    size = (2.0 + 1.9 * len(ways), 1.5 + 0.24 * len(gates))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True, squeeze=False)[0]
    for axes, way in zip(panels, ways, strict=True):
        _draw_panel(axes, [found[way][gate] for gate in order])
        axes.set_title(f"{TEACHERS[way.setting]}\ntemperature {way.temperature:g}", fontsize=9)
    panels[0].set_yticks(range(len(gates)), [gates[gate] for gate in order], fontsize=8)
    figure.supxlabel("final return above that of main-only learning; bars: 95 %", fontsize=9)
    figure.suptitle(heading(results), fontsize=10)
    return figure


def write(results: Results, path: Path) -> None:
    """Draws the figure into a file, the same bytes for the same results."""
    save(draw(results), path)


def _beside_main(results: Results, way: Teaching) -> Float[np.ndarray, "W gates"]:
    final, places = results.final(), {arm: place for place, arm in enumerate(results.arms)}
    taught = [final[places[Arm(gate, way)]] for gate in results.config.gates]
    return np.asarray(np.stack(taught, 1) - final[places[Arm(MAIN, None)]][:, None])


def _draw_panel(axes: Axes, found: list[Difference]) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for place, difference in enumerate(found):
        ink = (WORSE, SAME, BETTER)[difference.sign + 1]
        axes.plot([difference.low, difference.high], [place, place], color=ink, linewidth=2)
        axes.plot(difference.mean, place, "o", color=ink, markersize=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
