"""How all figures look: one colour for each gate, frames and grids."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from experiments.statistics import estimates

# Okabe and Ito, "Color Universal Design" (https://jfly.uni-koeln.de/color/): told apart
# with any colour vision; without its yellow, which is too pale for a line on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BLACK, BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY = COLOURS
Dashes = Literal["-", "--", ":", "-."]
DASHES: tuple[Dashes, ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Ink:
    """How a line is drawn."""

    colour: str
    dashes: Dashes = "-"


NO_GATE = Ink(BLACK)
"""Learning by the main loss alone."""
GATES = {
    "sum": Ink(VERMILLION),
    "cosine": Ink(BLUE),
    "cosine_unweighted": Ink(GREEN),
    "projection": Ink(PINK),
    "orthogonal": Ink(ORANGE),
    "pcgrad": Ink(SKY),
    "gradvac": Ink(VERMILLION, "--"),
    "mgda": Ink(BLUE, "--"),
    "cagrad": Ink(GREEN, "--"),
    "upgrad": Ink(PINK, "--"),
    "nash": Ink(ORANGE, "--"),
    "auxinash": Ink(SKY, "--"),
    "significant": Ink(VERMILLION, ":"),
    "gradnorm": Ink(BLUE, ":"),
    "ol_aux": Ink(GREEN, ":"),
    "attittud": Ink(PINK, ":"),
    "rotograd": Ink(ORANGE, ":"),
    "bounded": Ink(SKY, ":"),
}
"""Colour and dashes of each gate, the same in every figure."""


def inks(gates: Sequence[str]) -> list[Ink]:
    """Chooses how the lines of a figure are drawn, by their gates.

    A gate has its own ink in every figure.  Where it occurs a second time in the same figure,
    with other options or another head, that line takes a colour that the figure does not use yet,
    but never black.

    Args:
        gates: one per line, options in brackets allowed; `main only` or `main-only` for none.
    """
    names = [gate.partition("(")[0].strip() for gate in gates]
    own = [GATES.get(name, None if _has_gate(name) else NO_GATE) for name in names]
    used = {ink.colour for ink in own if ink is not None}
    free = [Ink(colour) for colour in COLOURS[1:] if colour not in used]
    spare = chain(free, cycle(Ink(colour, "-.") for colour in COLOURS[1:]))
    return [
        next(spare) if ink is None or ink in own[:number] else ink for number, ink in enumerate(own)
    ]


def _has_gate(name: str) -> bool:
    return name.replace("-", " ") != "main only"


def colour(index: int) -> str:
    """The colour at a place of the palette, which starts again at its end."""
    return COLOURS[index % len(COLOURS)]


def tidy(axes: Axes) -> None:
    """Removes the frame on two sides, and draws a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def curve_with_band(
    axes: Axes,
    points: Float[np.ndarray, " n"],
    runs: Float[np.ndarray, "runs n"],
    colour: str,
    label: str,
) -> None:
    """Draws the mean of runs and its 95 % bootstrap interval, where every run has a value.

    Args:
        axes: where to draw.
        points: on the horizontal axis.
        runs: values of every run there; NaN for none.
        colour: of line and band.
        label: for the legend.
    """
    seen = ~np.isnan(runs).any(0)
    points, runs = points[seen], runs[:, seen]
    axes.plot(points, runs.mean(0), color=colour, label=label)
    if len(runs) > 1:
        bounds = estimates(runs)
        low, high = [bound.low for bound in bounds], [bound.high for bound in bounds]
        axes.fill_between(points, low, high, color=colour, alpha=0.2, linewidth=0)


def score_text(score: float) -> str:
    """A score in three digits, or as a whole number where these would need an exponent."""
    return f"{score:.3g}" if abs(score) < 999.5 else f"{score:,.0f}"
