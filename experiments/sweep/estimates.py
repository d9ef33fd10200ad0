"""How sure means over worlds are, and differences between arms, many columns at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

REPLICATES = 4_000
LEVEL = 0.95
_BLOCK = 1_000
"""Replicates held in memory at once."""
_MOST_EXACT_PAIRS = 14
"""With so many worlds, all 2^14 choices of signs are tried; with more, as many at random."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over worlds, and where it lies at the level of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of a paired difference, and how likely one so large were without any."""

    p: float

    @property
    def sign(self) -> int:
        """1 above, -1 below, 0 where no difference is shown: its interval holds 0, or p > 0.05."""
        if self.p > 1 - LEVEL:
            return 0
        return (self.low > 0) - (self.high < 0)


def estimates(columns: Float[np.ndarray, "W M"]) -> list[Estimate]:
    """The mean over worlds of each column, with its percentile bootstrap interval."""
    low, high = bootstrap(columns)
    return [Estimate(*each) for each in np.stack([columns.mean(0), low, high], 1).tolist()]


def differences(columns: Float[np.ndarray, "W M"]) -> list[Difference]:
    """The same of paired differences, with the p-values of `sign_flip_test`."""
    numbers = [columns.mean(0), *bootstrap(columns), sign_flip_test(columns)]
    return [Difference(*each) for each in np.stack(numbers, 1).tolist()]


def bootstrap(
    columns: Float[np.ndarray, "W M"],
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Percentile interval of the mean of each column; worlds are drawn anew (seeded)."""
    worlds, rng = len(columns), np.random.default_rng(0)
    means = [
        rng.multinomial(worlds, np.full(worlds, 1 / worlds), size) @ columns / worlds
        for size in _blocks(REPLICATES)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


def sign_flip_test(columns: Float[np.ndarray, "W M"]) -> Float[np.ndarray, " M"]:
    """Two-sided permutation p-values of paired differences: is the mean of a column zero?

    If two arms did not differ, each world's difference could as well have the other sign.
    The p-value is the fraction of choices of signs whose mean is at least as far from zero.
    """
    margin = _ROUNDING * np.abs(columns).sum(0)
    observed = np.abs(columns.sum(0)) - margin
    choices = 2 ** min(len(columns), _MOST_EXACT_PAIRS)
    extreme = sum(
        (np.abs(signs @ columns) >= observed).sum(0) for signs in _signs(len(columns), choices)
    )
    if len(columns) <= _MOST_EXACT_PAIRS:
        return np.asarray(extreme / choices)
    # The signs that were observed are one of the choices: p is never 0.
    return np.asarray((1 + extreme) / (1 + choices))


def _signs(worlds: int, choices: int) -> Iterator[Float[np.ndarray, "choices W"]]:
    rng = np.random.default_rng(0)
    first = 0
    for size in _blocks(choices):
        if worlds <= _MOST_EXACT_PAIRS:
            bits = np.arange(first, first + size)[:, None] >> np.arange(worlds) & 1
        else:
            bits = rng.integers(2, size=(size, worlds), dtype=np.int8)
        first += size
        yield np.where(bits, 1.0, -1.0)


def _blocks(total: int) -> list[int]:
    return [min(_BLOCK, total - start) for start in range(0, total, _BLOCK)]
