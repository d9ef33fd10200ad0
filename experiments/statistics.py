"""Intervals and tests of everything that is reported: scores, curves, sweeps, studies.

Aggregates over runs and games follow Agarwal, Schwarzer, Castro, Courville, Bellemare: "Deep
Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264.  The scores of an arm are one array per game, with the runs on
the last axis.  Axes before it are replicates of the bootstrap; every aggregate keeps them.

All random draws are seeded: the same scores give the same interval and the same p-value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
REPLICATES = 20_000
"""Bootstrap replicates of an aggregate over runs and games."""
COLUMN_REPLICATES = 4_000
"""Bootstrap replicates of the means of many columns."""
_BLOCK = 1_000
"""Replicates held in memory at once."""
_MOST_EXACT_PAIRS = 14
"""Up to so many pairs, all 2^14 choices of signs are tried; above, as many random ones."""
_SAME_END = 1e-12
"""Two ends of an interval are equal up to this fraction of the larger."""
_SAME_SUM = 1e-9
"""Two sums are equal up to this fraction of the sum of absolute values."""

Scores = Float[np.ndarray, "*replicates _"]
Games = Sequence[Scores]
Aggregates = Float[np.ndarray, "*replicates"]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, unless another level was asked for."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval."""

    value: float
    interval: Interval | None
    """None where the runs do not tell how much runs vary."""

    @property
    def low(self) -> float:
        """The lower end of the interval; NaN without one."""
        return nan if self.interval is None else self.interval.low

    @property
    def high(self) -> float:
        """The upper end of the interval; NaN without one."""
        return nan if self.interval is None else self.interval.high


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of paired differences."""

    p: float
    """Two-sided p-value of the sign-flip test: n pairs cannot give less than 2 / 2^n."""

    @property
    def sign(self) -> int:
        """1 above zero, -1 below, 0 where none is shown: the interval holds 0, or p > 0.05."""
        if self.p > 1 - LEVEL:
            return 0
        return (self.low > 0) - (self.high < 0)


def iqm(games: Games) -> Aggregates:
    """Interquartile mean: of all runs of all games, without the lowest and the highest quarter.

    A game with more runs than the others counts for more.
    """
    pooled = np.sort(np.concatenate(games, axis=-1), axis=-1)
    runs = pooled.shape[-1]
    # Whole runs are cut, rounded down: two or three runs are all kept.
    return np.asarray(pooled[..., runs // 4 : runs - runs // 4].mean(-1))


def mean(games: Games) -> Aggregates:
    """Mean over games of the mean over runs."""
    return np.asarray(np.mean([scores.mean(-1) for scores in games], axis=0))


def median(games: Games) -> Aggregates:
    """Median over games of the mean over runs."""
    return np.asarray(np.median([scores.mean(-1) for scores in games], axis=0))


def optimality_gap(games: Games, target: float = 1.0) -> Aggregates:
    """Mean shortfall below `target`; a score above it does not make up for one below."""
    return np.asarray(target - mean([np.minimum(scores, target) for scores in games]))


def probability_of_improvement(better: Games, worse: Games) -> Aggregates:
    """Probability that a run of the first arm beats a run of the second on the same game.

    The mean over games of the Mann-Whitney statistic U / (runs * runs); a tie is half a win.
    """
    assert len(better) == len(worse), "both arms have played the same games"
    wins = []
    for first, second in zip(better, worse, strict=True):
        difference = first[..., :, None] - second[..., None, :]
        wins.append((0.5 * (np.sign(difference) + 1)).mean((-2, -1)))
    return np.asarray(np.mean(wins, axis=0))


def bootstrap(
    statistic: Callable[..., Aggregates],
    *arms: Games,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of `statistic(*arms)`; runs are drawn anew within each game and arm.

    Args:
        statistic: an aggregate of as many arms as are given.
        arms: their scores, game by game.
        replicates: how often all runs are drawn anew.
        level: the fraction of replicates within the interval.

    Returns:
        The interval; its two ends are equal where no replicate differs from another.
    """
    rng = np.random.default_rng(0)
    found = [
        statistic(*([_resampled(scores, size, rng) for scores in games] for games in arms))
        for size in _blocks(replicates)
    ]
    low, high = percentiles(np.concatenate(found), level)
    return Interval(float(low), float(high))


def stratified_bootstrap(
    statistic: Callable[..., Aggregates],
    *arms: Games,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval | None:
    """`bootstrap` where the runs tell how much runs vary.

    Args:
        statistic: an aggregate of as many arms as are given.
        arms: their scores, game by game.
        replicates: how often all runs are drawn anew.
        level: the fraction of replicates within the interval.

    Returns:
        None where a game has fewer than two runs, or no replicate differs from another.
    """
    if any(scores.shape[-1] < 2 for games in arms for scores in games):
        return None
    found = bootstrap(statistic, *arms, replicates=replicates, level=level)
    if found.high - found.low <= _SAME_END * max(abs(found.low), abs(found.high)):
        return None
    return found


def bootstrap_means(
    columns: Float[np.ndarray, "runs M"],
    replicates: int = COLUMN_REPLICATES,
    level: float = LEVEL,
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Percentile intervals of the mean of each column: the band around a mean curve, for instance.

    Args:
        columns: one row per run or world; whole rows are drawn anew.
        replicates: how often.
        level: the fraction of replicates within each interval.

    Returns:
        The lower and the upper ends.
    """
    return percentiles(resampled_means(columns, replicates), level)


def resampled_means(
    columns: Float[np.ndarray, "runs M"], replicates: int = COLUMN_REPLICATES
) -> Float[np.ndarray, "replicates M"]:
    """The means of all columns in each replicate of the bootstrap, for statistics of means.

    Args:
        columns: one row per run or world; whole rows are drawn anew, so columns stay paired.
        replicates: how often.
    """
    runs, rng = len(columns), np.random.default_rng(0)
    means = [
        rng.multinomial(runs, np.full(runs, 1 / runs), size) @ columns / runs
        for size in _blocks(replicates)
    ]
    return np.concatenate(means)


def estimates(columns: Float[np.ndarray, "runs M"]) -> list[Estimate]:
    """The mean of each column over runs or worlds, with its interval."""
    low, high = bootstrap_means(columns)
    numbers = np.stack([columns.mean(0), low, high], 1).tolist()
    return [Estimate(value, Interval(below, above)) for value, below, above in numbers]


def differences(columns: Float[np.ndarray, "pairs M"]) -> list[Difference]:
    """The mean of each column of paired differences, with its interval and p-value."""
    p_values = sign_flip_test(columns).tolist()
    return [
        Difference(each.value, each.interval, p)
        for each, p in zip(estimates(columns), p_values, strict=True)
    ]


def _resampled(
    scores: Float[np.ndarray, " runs"], size: int, rng: np.random.Generator
) -> Float[np.ndarray, "{size} runs"]:
    return np.asarray(scores[rng.integers(len(scores), size=(size, len(scores)))])


def _blocks(total: int) -> list[int]:
    return [min(_BLOCK, total - start) for start in range(0, total, _BLOCK)]


def percentiles(replicates: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the percentile interval over the first axis."""
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return low, high


def sign_flip_test(columns: Float[np.ndarray, "pairs M"]) -> Float[np.ndarray, " M"]:
    """Two-sided permutation p-values: is the mean of each column of paired differences zero?

    If two arms did not differ, each difference could as well have the other sign.  The p-value
    is the fraction of choices of signs whose mean is at least as far from zero; n pairs cannot
    give less than 2 / 2^n.
    """
    margin = _SAME_SUM * np.abs(columns).sum(0)
    observed = np.abs(columns.sum(0)) - margin
    choices = 2 ** min(len(columns), _MOST_EXACT_PAIRS)
    extreme = sum(
        (np.abs(signs @ columns) >= observed).sum(0) for signs in _signs(len(columns), choices)
    )
    if len(columns) <= _MOST_EXACT_PAIRS:
        return np.asarray(extreme / choices)
    # The signs that were observed are one of the choices: p is never 0.
    return np.asarray((1 + extreme) / (1 + choices))


def stratified_sign_flip_test(games: Sequence[Float[np.ndarray, " _"]]) -> float:
    """`sign_flip_test` of the mean over games of their mean paired difference."""
    weighted = np.concatenate([pairs / len(pairs) for pairs in games])
    return float(sign_flip_test(weighted[:, None])[0])


def _signs(pairs: int, choices: int) -> Iterator[Float[np.ndarray, "choices {pairs}"]]:
    rng = np.random.default_rng(0)
    first = 0
    for size in _blocks(choices):
        if pairs <= _MOST_EXACT_PAIRS:
            bits = np.arange(first, first + size)[:, None] >> np.arange(pairs) & 1
        else:
            bits = rng.integers(2, size=(size, pairs), dtype=np.int8)
        first += size
        yield np.where(bits, 1.0, -1.0)


def paired(ours: Float[np.ndarray, " seeds"], theirs: Float[np.ndarray, " seeds"]) -> Difference:
    """Compares two arms whose runs have the same seeds, in the same order.

    With few seeds the interval is too narrow; a single seed has none.
    """
    pairs = ours - theirs
    difference = float(pairs.mean())
    interval = stratified_bootstrap(mean, [pairs])
    if interval is None and len(pairs) > 1:
        # All seeds differ by the same: a closed gate is the arm without a head, bit for bit.
        interval = Interval(difference, difference)
    return Difference(difference, interval, stratified_sign_flip_test([pairs]))


def compare_with(arms: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Difference]:
    """Compares every arm with one of them, seed by seed; that one with itself, too.

    Args:
        arms: numbers of runs, by arm and seed.
        reference: the arm to compare with.

    Raises:
        ValueError: an arm has other seeds, or there is no run of the reference.
    """
    if reference not in arms:
        raise ValueError(f"there is no finished run of {reference}: train that arm first.")
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
    """Corrects p-values for their number.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".  If those below 0.05
    after the correction are called differences, the probability that any of them is chance is at
    most 0.05, however the tests depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    ascending = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(ascending))
    return corrected.tolist()
