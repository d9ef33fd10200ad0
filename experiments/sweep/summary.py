"""The numbers of a sweep and its verdicts: returns, paired differences, claims.

The claims are those of Du et al. 2018, https://arxiv.org/abs/1812.02224, Figure 4: a teacher from
another world, the colder the worse, pulls plain adding below learning alone, which a gate
prevents; a perfect teacher is best trusted everywhere, which a gate cannot know.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from configs.programs import Setting
from experiments.statistics import Difference, Estimate, differences, estimates
from experiments.sweep.arms import MAIN, SweepArm, Teaching, teachings
from experiments.sweep.folder import Results

SUM = "sum"
TAIL = 0.1
"""Fraction of the steps at the end, in which main-only learning should have converged."""


@dataclass(frozen=True)
class Score:
    """One arm, by its final return and by the mean of its curve (the area under it)."""

    arm: SweepArm
    final: Estimate
    area: Estimate
    final_against_main: Difference | None
    area_against_main: Difference | None
    final_against_sum: Difference | None
    """Paired with `sum` under the same teacher; None for itself and where it was not swept."""
    area_against_sum: Difference | None
    cosine: float | None
    """Mean over all updates."""
    weight: float | None


@dataclass(frozen=True)
class Summary:
    """All arms, and what to compare them with."""

    scores: tuple[Score, ...]
    """Main-only first."""
    teachers: dict[Teaching, Estimate]
    """Return of each teacher in the students' worlds."""
    optimum: Estimate
    random: Estimate
    share_of_optimum: float
    """Main-only at its end: how far from random (0) to the optimum (1)."""
    drift: float
    """By how much main-only moves in the last tenth, as a fraction of its range."""
    cells: float
    """Mean number per world of cells in which an agent can act."""
    aliased: float
    """Mean number per world of those cells that look like another one."""

    def of(self, gate: str, teaching: Teaching | None) -> Score:
        """The score of one arm."""
        return next(score for score in self.scores if score.arm == SweepArm(gate, teaching))

    def to_json(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "optimum": _plain(self.optimum),
            "random": _plain(self.random),
            "main_only_share_of_optimum": self.share_of_optimum,
            "main_only_drift_in_last_tenth": self.drift,
            "cells": self.cells,
            "aliased_cells": self.aliased,
            "teachers": [asdict(key) | _plain(value) for key, value in self.teachers.items()],
            "arms": [_plain_score(score) for score in self.scores],
        }


def _plain(estimate: Estimate) -> dict[str, float]:
    """An estimate as `summary.json` has it."""
    plain = {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
    return plain | {"p": estimate.p} if isinstance(estimate, Difference) else plain


def _plain_score(score: Score) -> dict[str, Any]:
    return asdict(score) | {
        name: _plain(value) for name, value in vars(score).items() if isinstance(value, Estimate)
    }


def summarise(results: Results) -> Summary:
    """Computes all numbers of a sweep."""
    arms = results.arms
    final, area = results.final(), results.area()
    main = [arms.index(SweepArm(MAIN, None))] * len(arms)
    plain = [
        arms.index(SweepArm(SUM, arm.teaching)) if SweepArm(SUM, arm.teaching) in arms else number
        for number, arm in enumerate(arms)
    ]
    by_final = _comparisons(final, main, plain)
    by_area = _comparisons(area, main, plain)
    finals, areas = estimates(final.T), estimates(area.T)
    cosine, weight = (
        _mean_over_updates(results, table) for table in (results.cosine, results.weight)
    )
    scores = []
    for number, arm in enumerate(arms):
        taught = arm.teaching is not None
        against_sum = taught and arm.gate != SUM and SweepArm(SUM, arm.teaching) in arms
        scores.append(
            Score(
                arm=arm,
                final=finals[number],
                area=areas[number],
                final_against_main=by_final[0][number] if taught else None,
                area_against_main=by_area[0][number] if taught else None,
                final_against_sum=by_final[1][number] if against_sum else None,
                area_against_sum=by_area[1][number] if against_sum else None,
                cosine=float(cosine[number]) if taught else None,
                weight=float(weight[number]) if taught else None,
            )
        )
    learnt = results.curves(MAIN, None).mean(1)
    near = np.interp((1 - TAIL) * results.steps[-1], results.steps, learnt)
    spread = max(float(np.ptp(learnt)), np.finfo(float).tiny)
    optimum, idle = estimates(np.stack([results.optimum, results.random], 1))
    return Summary(
        scores=tuple(scores),
        teachers=dict(zip(teachings(results.config), estimates(results.teacher.T), strict=True)),
        optimum=optimum,
        random=idle,
        share_of_optimum=float((learnt[-1] - idle.value) / (optimum.value - idle.value)),
        drift=float(abs(learnt[-1] - near) / spread),
        cells=float(results.cells.mean()),
        aliased=float(results.aliased.mean()),
    )


def _comparisons(
    values: Float[np.ndarray, "K W"], *references: Sequence[int]
) -> list[list[Difference]]:
    """Compares every arm with its reference, for each list of references."""
    return [differences((values - values[list(reference)]).T) for reference in references]


def _mean_over_updates(
    results: Results, table: Float[np.ndarray, "intervals K W"]
) -> Float[np.ndarray, " K"]:
    updates = np.diff(results.config.log_points)
    return np.asarray(np.average(table.mean(-1), axis=0, weights=updates))


# Verdicts on the claims, also where the sweep contradicts them.

REST = 0.01
"""Main-only learning has converged if its last tenth moves by less than this of its range."""
ENOUGH = 0.85
"""It has learnt enough if it gets this far from random to the optimum."""


@dataclass(frozen=True)
class Verdict:
    """One claim, and what became of it."""

    claim: str
    outcome: str
    """shown, shown in part, not shown, reversed, or not tested."""
    evidence: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.outcome}. {self.evidence}"


def verdicts(results: Results, summary: Summary) -> list[Verdict]:
    """Tests each claim on the final returns."""
    return [
        _budget(summary),
        *_misleading(results, summary),
        *_perfect(results, summary),
        *_warmth(results),
    ]


def _budget(summary: Summary) -> Verdict:
    enough = summary.share_of_optimum >= ENOUGH and summary.drift < REST
    return Verdict(
        "Main-only learning has time enough",
        "shown" if enough else "not shown",
        f"It ends {summary.share_of_optimum:.0%} of the way from a random policy to the optimum "
        f"(wanted: {ENOUGH:.0%}), and moves by {summary.drift:.1%} of its range in its last tenth "
        f"(wanted: below {REST:.0%}).",
    )


def _misleading(results: Results, summary: Summary) -> Iterator[Verdict]:
    """Does plain adding fall below main-only under the coldest misleading teacher; do gates not?"""
    coldest = _coldest(results, "cross")
    claim = "A cold misleading teacher pulls sum below main-only"
    if coldest is None or SUM not in results.config.gates:
        yield Verdict(claim, "not tested", "It needs setting cross and gate sum.")
    else:
        plain = summary.of(SUM, coldest)
        fate = {-1: "shown", 0: "not shown", 1: "reversed"}[_versus_main(plain).sign]
        yield Verdict(claim, fate, f"{_at(coldest)}, {_ends(plain, summary)}.")
    for gate in _others(results):
        claim = f"{gate} keeps a cold misleading teacher from doing so"
        if coldest is None:
            yield Verdict(claim, "not tested", "It needs setting cross.")
            continue
        score = summary.of(gate, coldest)
        against = score.final_against_sum
        above_sum = against is not None and against.sign > 0
        if _versus_main(score).sign >= 0:
            outcome = "shown"
        else:
            outcome = "shown in part (above sum, below main-only)" if above_sum else "not shown"
        yield Verdict(claim, outcome, f"{_at(coldest)}, {_ends(score, summary)}{_to_sum(score)}.")


def _perfect(results: Results, summary: Summary) -> Iterator[Verdict]:
    """What does a gate cost where trust would be right?"""
    coldest = _coldest(results, "same")
    for gate in _others(results):
        claim = f"{gate} costs something where the teacher is perfect"
        score = None if coldest is None else summary.of(gate, coldest)
        if coldest is None or score is None or score.final_against_sum is None:
            yield Verdict(claim, "not tested", "It needs setting same and gate sum.")
            continue
        outcome = {-1: "shown", 0: "not shown", 1: "reversed"}[score.final_against_sum.sign]
        yield Verdict(claim, outcome, f"{_at(coldest)}, {_ends(score, summary)}{_to_sum(score)}.")


def _warmth(results: Results) -> Iterator[Verdict]:
    """Does a misleading teacher do less harm when it is warm?"""
    ways = sorted(
        (way for way in teachings(results.config) if way.setting == "cross"),
        key=lambda way: way.temperature,
    )
    for gate in results.config.gates:
        claim = f"A warmer misleading teacher does less harm to {gate}"
        if len(ways) < 2:
            yield Verdict(claim, "not tested", "It needs setting cross and two temperatures.")
            continue
        main = results.curves(MAIN, None)[-1]
        harm = ", ".join(
            f"{way.temperature:g}: {(results.curves(gate, way)[-1] - main).mean():+.2f}"
            for way in ways
        )
        cold, warm = (results.curves(gate, way)[-1] for way in (ways[0], ways[-1]))
        [warmer] = differences(np.asarray(warm - cold)[:, None])
        outcome = {1: "shown", 0: "not shown", -1: "reversed"}[warmer.sign]
        yield Verdict(
            claim,
            outcome,
            f"Final return above main-only by temperature: {harm}; from {ways[0].temperature:g} to "
            f"{ways[-1].temperature:g} {_words(warmer)}.",
        )


def _coldest(results: Results, setting: Setting) -> Teaching | None:
    if setting not in results.config.settings:
        return None
    return Teaching(setting, min(results.config.temperatures))


def _others(results: Results) -> list[str]:
    return [gate for gate in results.config.gates if gate != SUM]


def _versus_main(score: Score) -> Difference:
    assert score.final_against_main is not None, "only main-only has nothing to compare with"
    return score.final_against_main


def _at(teaching: Teaching) -> str:
    return f"With setting {teaching.setting} at temperature {teaching.temperature:g}"


def _ends(score: Score, summary: Summary) -> str:
    alone = summary.of(MAIN, None).final
    return (
        f"{score.arm.gate} ends at {score.final.value:.2f} and main-only at {alone.value:.2f}, "
        f"{_words(_versus_main(score))}"
    )


def _to_sum(score: Score) -> str:
    against = score.final_against_sum
    return "" if against is None else f"; against sum {_words(against)}"


def _words(difference: Difference) -> str:
    return (
        f"{difference.value:+.2f} (95 % {difference.low:+.2f} to {difference.high:+.2f}, "
        f"p = {difference.p:.2g})"
    )
