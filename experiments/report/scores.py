"""The numbers of a report: each arm on each game, on all games together, and arm against arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from envs.atari.games import REFERENCES
from experiments import statistics
from experiments.report.arms import Arm
from experiments.report.runs import Run
from experiments.statistics import Estimate, Games, stratified_bootstrap, stratified_sign_flip_test

ALL = "all games"
"""Stands for the games that every arm has played, where there are two or more."""
FINAL, AREA = "final", "area"
RAW, HUMAN = "score", "human-normalised"


@dataclass(frozen=True)
class Summary:
    """One arm on one game or on all."""

    arm: str
    env: str
    measure: str
    """`final` (see `final_is_evaluation`) or `area`: mean return over the whole run."""
    unit: str
    """`score`: as the game counts; `human-normalised`: 0 random play, 1 a human."""
    runs: int
    steps: int
    """Agent steps of the shortest run."""
    iqm: Estimate
    mean: Estimate
    median: Estimate
    """Over runs on one game; over the games' means on all."""
    optimality_gap: Estimate | None
    """Only of human-normalised scores: how far they fall short of a human."""
    values: tuple[float, ...]
    """One per run, game by game in the order of seeds."""


@dataclass(frozen=True)
class Comparison:
    """One arm against another one before it."""

    arm: str
    against: str
    env: str
    measure: str
    unit: str
    """Unit of the difference; empty where scores of the games do not add up."""
    runs: int
    runs_against: int
    probability: Estimate
    """Probability that a run of `arm` beats one of `against`."""
    pairs: int
    """Number of pairs: runs of the same game and seed."""
    difference: Estimate | None
    """Mean over these pairs, game by game."""
    p_value: float | None
    """Two-sided p-value of the sign-flip test of these pairs."""


def final_is_evaluation(arms: Sequence[Arm]) -> bool:
    """Whether every run's final policy was evaluated.

    If so, `final` is the mean of its evaluation.json, else the mean return in the last
    tenth of the training curve; the same for all runs, so that they compare.
    """
    return all(
        run.evaluation is not None and run.evaluation["trained_steps"] >= run.steps
        for arm in arms
        for runs in arm.runs.values()
        for run in runs
    )


def measures(arms: Sequence[Arm]) -> dict[str, Callable[[Run], float]]:
    """The measures of a run, by name."""
    evaluated = final_is_evaluation(arms)

    def final(run: Run) -> float:
        if evaluated and run.evaluation is not None:
            return float(run.evaluation["mean"])
        return run.final

    return {FINAL: final, AREA: lambda run: run.area}


def games_of(arms: Sequence[Arm]) -> tuple[str, ...]:
    """All games, in alphabetical order."""
    return tuple(sorted({env for arm in arms for env in arm.runs}))


def common_games(arms: Sequence[Arm]) -> tuple[str, ...]:
    """The games that every arm has played."""
    return tuple(env for env in games_of(arms) if all(env in arm.runs for arm in arms))


def units(envs: Sequence[str]) -> tuple[str, ...]:
    """The units in which scores of these games can be averaged."""
    known = [env in REFERENCES for env in envs]
    if len(envs) == 1:
        return (RAW, HUMAN) if all(known) else (RAW,)
    # Raw scores of Atari games differ by factors of thousands: their mean says nothing.
    return (HUMAN,) if all(known) else () if any(known) else (RAW,)


def summarise(arms: Sequence[Arm]) -> list[Summary]:
    """Every arm on every game that it has played, then on all."""
    return [
        _summary(arm, label, envs, measure, value, unit)
        for label, envs in _scopes(arms)
        for unit in units(envs)
        for measure, value in measures(arms).items()
        for arm in arms
        if all(env in arm.runs for env in envs)
    ]


def compare(arms: Sequence[Arm]) -> list[Comparison]:
    """Every arm against every one before it, on every game that both have played, then on all."""
    return [
        _comparison(arm, against, label, envs, measure, value)
        for label, envs in _scopes(arms)
        for measure, value in measures(arms).items()
        for against, arm in combinations(arms, 2)
        if all(env in arm.runs and env in against.runs for env in envs)
    ]


def corrected(comparisons: Sequence[Comparison], first: str) -> list[tuple[Comparison, float]]:
    """The tests of where each arm ends against the first arm, with corrected p-values.

    Holm's correction counts the tests of single games as one family; those of all games
    together, which repeat them, are another.

    Args:
        comparisons: of all arms.
        first: the arm that the others are compared with.

    Returns:
        The comparisons that have a test, and the p-value of each after the correction.
    """
    tested = [
        row
        for row in comparisons
        if (row.against, row.measure) == (first, FINAL) and row.p_value is not None
    ]
    found = []
    for together in (False, True):
        family = [row for row in tested if (row.env == ALL) is together]
        p_values = [row.p_value for row in family if row.p_value is not None]
        found += list(zip(family, statistics.holm(p_values), strict=True))
    return found


def _scopes(arms: Sequence[Arm]) -> list[tuple[str, tuple[str, ...]]]:
    """The scopes of a report: each game by itself, then all of them."""
    common = common_games(arms)
    alone: list[tuple[str, tuple[str, ...]]] = [(env, (env,)) for env in games_of(arms)]
    return [*alone, (ALL, common)] if len(common) > 1 else alone


def _scores(arm: Arm, envs: Sequence[str], value: Callable[[Run], float], unit: str) -> Games:
    return [np.array([_in_unit(value(run), env, unit) for run in arm.runs[env]]) for env in envs]


def _in_unit(score: float, env: str, unit: str) -> float:
    return REFERENCES[env].normalised(score) if unit == HUMAN else score


def _estimate(statistic: Callable[..., Float[np.ndarray, "*_"]], *arms: Games) -> Estimate:
    return Estimate(float(statistic(*arms)), stratified_bootstrap(statistic, *arms))


def _median_run(games: Games) -> Float[np.ndarray, "*_"]:
    return np.asarray(np.median(games[0], axis=-1))


def _summary(
    arm: Arm,
    label: str,
    envs: Sequence[str],
    measure: str,
    value: Callable[[Run], float],
    unit: str,
) -> Summary:
    scores = _scores(arm, envs, value, unit)
    return Summary(
        arm=arm.name,
        env=label,
        measure=measure,
        unit=unit,
        runs=sum(map(len, scores)),
        steps=min(run.steps for env in envs for run in arm.runs[env]),
        iqm=_estimate(statistics.iqm, scores),
        mean=_estimate(statistics.mean, scores),
        median=_estimate(_median_run if len(envs) == 1 else statistics.median, scores),
        optimality_gap=_estimate(statistics.optimality_gap, scores) if unit == HUMAN else None,
        values=tuple(float(score) for game in scores for score in game),
    )


def _comparison(
    arm: Arm,
    against: Arm,
    label: str,
    envs: Sequence[str],
    measure: str,
    value: Callable[[Run], float],
) -> Comparison:
    scores, others = (_scores(each, envs, value, RAW) for each in (arm, against))
    unit = next(iter(units(envs)), "")
    differences = _paired_differences(arm, against, envs, value, unit) if unit else []
    return Comparison(
        arm=arm.name,
        against=against.name,
        env=label,
        measure=measure,
        unit=unit,
        runs=sum(map(len, scores)),
        runs_against=sum(map(len, others)),
        # Whether one score is above another does not depend on the unit.
        probability=_estimate(statistics.probability_of_improvement, scores, others),
        pairs=sum(map(len, differences)),
        difference=_estimate(statistics.mean, differences) if differences else None,
        p_value=stratified_sign_flip_test(differences) if differences else None,
    )


def _paired_differences(
    arm: Arm, against: Arm, envs: Sequence[str], value: Callable[[Run], float], unit: str
) -> list[Float[np.ndarray, " pairs"]]:
    """Arm minus other, per game, of the seeds that both have; empty if a game has none."""
    found = []
    for env in envs:
        ours, theirs = (
            {run.seed: _in_unit(value(run), env, unit) for run in each.runs[env]}
            for each in (arm, against)
        )
        found.append(np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs]))
    return found if all(map(len, found)) else []
