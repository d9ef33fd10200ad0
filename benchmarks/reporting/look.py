"""How all figures look: colours, frames, labels that do not overlap."""

from collections.abc import Sequence
from itertools import pairwise
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design" (https://jfly.uni-koeln.de/color/): told apart
# with any colour vision; without its yellow, which is too pale for a line on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

LABEL_WIDTH = 24
"""Characters in a line of a label."""
_NO_BREAK = "\N{NO-BREAK SPACE}"


def colour(index: int) -> str:
    """Of an arm, by its place."""
    return COLOURS[index % len(COLOURS)]


def tidy(axes: Axes) -> None:
    """Leaves of the frame and the grid what helps to read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def wrap(name: str) -> str:
    """Breaks an arm's name into lines, at its commas where that is enough."""
    unbroken = ", ".join(part.replace(" ", _NO_BREAK) for part in name.split(", "))
    return fill(unbroken, LABEL_WIDTH).replace(_NO_BREAK, " ")


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
    # Less the distance it keeps from the first, each label has only not to lie below the
    # one before: those that do are pooled at their mean.
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
