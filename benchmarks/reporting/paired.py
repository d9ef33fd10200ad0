"""Runs beside others of the same seeds: how far apart, and whether that can be chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from benchmarks.reporting.estimates import Interval, mean, sign_flip_test, stratified_bootstrap


@dataclass(frozen=True)
class Paired:
    """The mean of differences, seed by seed."""

    difference: float
    interval: Interval | None
    """95 % bootstrap interval; none of a single seed.  With few seeds it is too narrow."""
    p: float
    """Of the sign-flip test, two-sided: n seeds cannot give less than 2 / 2^n."""


def paired(ours: Float[np.ndarray, " seeds"], theirs: Float[np.ndarray, " seeds"]) -> Paired:
    """Compares runs, of the same seeds in the same order."""
    pairs = ours - theirs
    difference = float(pairs.mean())
    interval = stratified_bootstrap(mean, [pairs])
    if interval is None and len(pairs) > 1:
        # All seeds differ by the same: a closed gate is the arm without a head, bit for bit.
        interval = Interval(difference, difference)
    return Paired(difference, interval, sign_flip_test([pairs]))


def beside(arms: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Paired]:
    """Compares all arms, of runs by seed, with one of them (and that one with itself).

    Raises:
        ValueError: an arm has other seeds.
    """
    theirs = arms[reference]
    for arm, runs in arms.items():
        if runs.keys() != theirs.keys():
            raise ValueError(f"{arm} has other seeds than {reference}: run all arms with the same.")
    seeds = list(theirs)
    return {
        arm: paired(*(np.array([each[seed] for seed in seeds]) for each in (runs, theirs)))
        for arm, runs in arms.items()
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number: Holm 1979, "A Simple Sequentially Rejective ...".

    Below 0.05 afterwards: with probability 0.95 none of those is chance, whatever hangs together.
    """
    order = np.argsort(p_values, kind="stable")
    ascending = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(ascending))
    return corrected.tolist()
