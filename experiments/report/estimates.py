"""Aggregates of scores over runs and games, and how sure they are.

Agarwal, Schwarzer, Castro, Courville, Bellemare: "Deep Reinforcement Learning at the
Edge of the Statistical Precipice", https://arxiv.org/abs/2108.13264.

The scores of an arm are one array per game, with the runs on its last axis.  Axes
before it are repetitions (the bootstrap's), which every function keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

REPLICATES = 20_000
LEVEL = 0.95
_BLOCK = 1_000
"""Replicates held in memory at once."""
_MOST_EXACT_PAIRS = 14
"""With so many, all 2^14 choices of signs are tried; with more, as many at random."""
_ROUNDING = 1e-12

Scores = Float[np.ndarray, "*replicates _"]
Games = Sequence[Scores]
Estimates = Float[np.ndarray, "*replicates"]


@dataclass(frozen=True)
class Interval:
    """Where the true value lies, at the level asked for."""

    low: float
    high: float


def iqm(games: Games) -> Estimates:
    """Interquartile mean: of all runs of all games, without the lowest and the highest quarter.

    A game with more runs than the others counts for more.
    """
    pooled = np.sort(np.concatenate(games, axis=-1), axis=-1)
    runs = pooled.shape[-1]
    # Whole runs are cut, rounded down: two or three runs are all kept.
    return np.asarray(pooled[..., runs // 4 : runs - runs // 4].mean(-1))


def mean(games: Games) -> Estimates:
    """Mean over games of the mean over runs."""
    return np.asarray(np.mean([scores.mean(-1) for scores in games], axis=0))


def median(games: Games) -> Estimates:
    """Median over games of the mean over runs."""
    return np.asarray(np.median([scores.mean(-1) for scores in games], axis=0))


def optimality_gap(games: Games, target: float = 1.0) -> Estimates:
    """How far scores fall short of `target` on average; what exceeds it makes up for nothing."""
    return np.asarray(target - mean([np.minimum(scores, target) for scores in games]))


def probability_of_improvement(better: Games, worse: Games) -> Estimates:
    """Probability that a run of the first arm beats a run of the second on the same game.

    The mean over games of the Mann-Whitney statistic U / (runs * runs); a tie is half a win.
    """
    assert len(better) == len(worse), "both arms have played the same games"
    wins = []
    for first, second in zip(better, worse, strict=True):
        difference = first[..., :, None] - second[..., None, :]
        wins.append((0.5 * (np.sign(difference) + 1)).mean((-2, -1)))
    return np.asarray(np.mean(wins, axis=0))


def stratified_bootstrap(
    statistic: Callable[..., Estimates],
    *arms: Games,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval | None:
    """Percentile interval of `statistic(*arms)`; runs are drawn anew within each game and arm.

    Seeded: the same scores give the same interval.

    Returns:
        None where the runs say nothing about how much runs vary: a game has fewer than
        two of them, or no replicate differs from another.
    """
    if any(scores.shape[-1] < 2 for games in arms for scores in games):
        return None
    rng = np.random.default_rng(0)
    estimates = np.concatenate(
        [
            statistic(*([_resampled(scores, size, rng) for scores in games] for games in arms))
            for size in _blocks(replicates)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        return None
    return Interval(float(low), float(high))


def bootstrap_band(
    curves: Float[np.ndarray, "runs points"], replicates: int = 2_000, level: float = LEVEL
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Percentile interval of the mean over runs, at each point apart."""
    runs = len(curves)
    counts = np.random.default_rng(0).multinomial(runs, np.full(runs, 1 / runs), replicates)
    tail = (1 - level) / 2
    low, high = np.quantile(counts @ curves / runs, [tail, 1 - tail], axis=0)
    return low, high


def sign_flip_test(differences: Sequence[Float[np.ndarray, " _"]]) -> float:
    """Two-sided p-value of paired differences, one array per game: is their mean zero?

    If the two arms did not differ, each difference could as well have the other sign.
    The p-value is the fraction of choices of signs whose mean is at least as far from
    zero; n pairs cannot give less than 2 / 2^n.
    """
    weighted = np.concatenate([pairs / len(pairs) for pairs in differences])
    margin = _ROUNDING * np.abs(weighted).sum()
    observed = abs(weighted.sum()) - margin
    if len(weighted) <= _MOST_EXACT_PAIRS:
        return float(np.mean(np.abs(_all_signs(len(weighted)) @ weighted) >= observed))
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(2**_MOST_EXACT_PAIRS, len(weighted)))
    extreme = np.abs(signs @ weighted) >= observed
    # The signs that were observed are one of the choices: p is never 0.
    return float((1 + extreme.sum()) / (1 + len(extreme)))


def _all_signs(pairs: int) -> Float[np.ndarray, "choices {pairs}"]:
    bits: Bool[np.ndarray, "choices pairs"] = (
        np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1
    ).astype(bool)
    return np.where(bits, 1.0, -1.0)


def _resampled(
    scores: Float[np.ndarray, " runs"], size: int, rng: np.random.Generator
) -> Float[np.ndarray, "{size} runs"]:
    return np.asarray(scores[rng.integers(len(scores), size=(size, len(scores)))])


def _blocks(total: int) -> list[int]:
    return [min(_BLOCK, total - start) for start in range(0, total, _BLOCK)]


# Runs beside others of the same seeds: how far apart, and whether that can be chance.


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
