"""The numbers of a sweep and its verdicts: returns, paired differences, claims.

The claims are those of Du et al. 2018, https://arxiv.org/abs/1812.02224, Figure 4: a teacher from
another world, the colder the worse, pulls plain adding below learning alone, which a gate
prevents; a perfect teacher is best trusted everywhere, which a gate cannot know.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from configs.programs import Setting, SweepConfig
from experiments.statistics import Difference, Estimate, Interval, differences, estimates, holm
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
    warmth: dict[str, Difference]
    """By gate: final return under the warmest misleading teacher less that under the coldest."""

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
            "warmth": {gate: _plain(value) for gate, value in self.warmth.items()},
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Summary":
        """Reads what `to_json` wrote."""
        return Summary(
            scores=tuple(map(_score, content["arms"])),
            teachers={
                Teaching(each["setting"], each["temperature"]): _estimate(each)
                for each in content["teachers"]
            },
            optimum=_estimate(content["optimum"]),
            random=_estimate(content["random"]),
            share_of_optimum=content["main_only_share_of_optimum"],
            drift=content["main_only_drift_in_last_tenth"],
            cells=content["cells"],
            aliased=content["aliased_cells"],
            warmth={gate: _estimate(plain) for gate, plain in content["warmth"].items()},
        )


def _plain(estimate: Estimate) -> dict[str, float]:
    """An estimate as `summary.json` has it."""
    plain = {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
    return plain | {"p": estimate.p} if isinstance(estimate, Difference) else plain


def _plain_score(score: Score) -> dict[str, Any]:
    return asdict(score) | {
        name: _plain(value) for name, value in vars(score).items() if isinstance(value, Estimate)
    }


def _estimate(plain: Mapping[str, float]) -> Any:
    """The estimate, or the difference, that `_plain` wrote."""
    value, interval = plain["mean"], Interval(plain["low"], plain["high"])
    return Difference(value, interval, plain["p"]) if "p" in plain else Estimate(value, interval)


def _score(plain: Mapping[str, Any]) -> Score:
    numbers = {
        name: _estimate(value) if isinstance(value, dict) else value
        for name, value in plain.items()
        if name != "arm"
    }
    teaching = plain["arm"]["teaching"]
    return Score(SweepArm(plain["arm"]["gate"], teaching and Teaching(**teaching)), **numbers)


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
        warmth=_warmth_of(results),
    )


def _warmth_of(results: Results) -> dict[str, Difference]:
    ways = _misleading_ways(results.config)
    if len(ways) < 2:
        return {}
    gates = results.config.gates
    cold, warm = (
        np.stack([results.curves(gate, way)[-1] for gate in gates], 1)
        for way in (ways[0], ways[-1])
    )
    return dict(zip(gates, differences(warm - cold), strict=True))


def _misleading_ways(config: SweepConfig) -> list[Teaching]:
    """The teachers of another world, the coldest first."""
    ways = [way for way in teachings(config) if way.setting == "cross"]
    return sorted(ways, key=lambda way: way.temperature)


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


REST = 0.01
"""Main-only learning has converged if its last tenth moves by less than this of its range."""
ENOUGH = 0.85
"""It has learnt enough if it gets this far from random to the optimum."""
MARGIN = 0.02
"""A loss counts as none up to this fraction of the way from a random policy to the optimum."""


@dataclass(frozen=True)
class Verdict:
    """One claim, and what became of it."""

    claim: str
    outcome: str
    """shown, shown in part, not shown, reversed, open, or not tested."""
    evidence: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.outcome}. {self.evidence}"


Tests = dict[tuple[str, str], Difference]
"""The tests behind the claims, by what is compared and the gate."""
AGAINST_MAIN, AGAINST_SUM, COST, WARMER = "main", "sum", "cost", "warmer"


def verdicts(config: SweepConfig, summary: Summary) -> list[Verdict]:
    """Weighs each claim on the final returns.

    A difference is shown if its 95 % interval leaves out 0 and its p-value, corrected by Holm's
    method for the number of all tests here, is at most 0.05.  That a gate loses nothing is shown
    only where the whole interval lies above minus a margin (a test of non-inferiority); where
    neither that nor a loss is shown, the claim is open.

    Args:
        config: of the sweep.
        summary: its numbers.
    """
    tests = _tests(config, summary)
    margin = MARGIN * (summary.optimum.value - summary.random.value)
    return [
        _budget(summary),
        *_misleading(config, summary, tests, margin),
        *_perfect(config, summary, tests),
        *_warmth(config, summary, tests),
    ]


def _tests(config: SweepConfig, summary: Summary) -> Tests:
    """All tests, with corrected p-values."""
    found: dict[tuple[str, str], Difference | None] = {}
    cross, same = (_coldest(config, setting) for setting in ("cross", "same"))
    for gate in config.gates:
        if cross is not None:
            score = summary.of(gate, cross)
            found[AGAINST_MAIN, gate] = score.final_against_main
            found[AGAINST_SUM, gate] = score.final_against_sum
        if same is not None:
            found[COST, gate] = summary.of(gate, same).final_against_sum
        found[WARMER, gate] = summary.warmth.get(gate)
    tests = {key: test for key, test in found.items() if test is not None}
    corrected = holm([test.p for test in tests.values()])
    return {
        key: replace(test, p=p) for (key, test), p in zip(tests.items(), corrected, strict=True)
    }


def _budget(summary: Summary) -> Verdict:
    enough = summary.share_of_optimum >= ENOUGH and summary.drift < REST
    return Verdict(
        "Main-only learning has time enough",
        "shown" if enough else "not shown",
        f"It ends {summary.share_of_optimum:.0%} of the way from a random policy to the optimum "
        f"(wanted: {ENOUGH:.0%}), and moves by {summary.drift:.1%} of its range in its last tenth "
        f"(wanted: below {REST:.0%}).",
    )


def _misleading(
    config: SweepConfig, summary: Summary, tests: Tests, margin: float
) -> Iterator[Verdict]:
    """Does plain adding fall below main-only under the coldest misleading teacher; do gates not?"""
    coldest = _coldest(config, "cross")
    claim = "A cold misleading teacher pulls sum below main-only"
    if coldest is None or SUM not in config.gates:
        yield Verdict(claim, "not tested", "It needs setting cross and gate sum.")
    else:
        plain = tests[AGAINST_MAIN, SUM]
        fate = {-1: "shown", 0: "not shown", 1: "reversed"}[plain.sign]
        ends = _ends(summary, SUM, coldest)
        yield Verdict(claim, fate, f"{_at(coldest)}, {ends}, {_words(plain)}.")
    for gate in _others(config):
        claim = f"{gate} keeps a cold misleading teacher from doing so"
        if coldest is None:
            yield Verdict(claim, "not tested", "It needs setting cross.")
            continue
        loss, gain = tests[AGAINST_MAIN, gate], tests.get((AGAINST_SUM, gate))
        evidence = f"{_at(coldest)}, {_ends(summary, gate, coldest)}, {_words(loss)}"
        evidence += f"; margin {margin:.2f}"
        evidence += "" if gain is None else f"; against sum {_words(gain)}"
        yield Verdict(claim, _protects(loss, gain, margin), f"{evidence}.")


def _protects(loss: Difference, gain: Difference | None, margin: float) -> str:
    """Whether a gate is shown to lose nothing.

    Args:
        loss: its final return less that of main-only learning.
        gain: less that of `sum`, where it was swept.
        margin: up to which a loss counts as none.
    """
    if loss.low > -margin:
        return "shown"
    if loss.sign >= 0:
        return "open"
    above_sum = gain is not None and gain.sign > 0
    return "shown in part (above sum, below main-only)" if above_sum else "not shown"


def _perfect(config: SweepConfig, summary: Summary, tests: Tests) -> Iterator[Verdict]:
    """What does a gate cost where trust would be right?"""
    coldest = _coldest(config, "same")
    for gate in _others(config):
        claim = f"{gate} costs something where the teacher is perfect"
        cost = tests.get((COST, gate))
        if coldest is None or cost is None:
            yield Verdict(claim, "not tested", "It needs setting same and gate sum.")
            continue
        outcome = {-1: "shown", 0: "not shown", 1: "reversed"}[cost.sign]
        evidence = f"{_at(coldest)}, {_ends(summary, gate, coldest)}; against sum {_words(cost)}."
        yield Verdict(claim, outcome, evidence)


def _warmth(config: SweepConfig, summary: Summary, tests: Tests) -> Iterator[Verdict]:
    """Does a misleading teacher do less harm when it is warm?"""
    ways = _misleading_ways(config)
    for gate in config.gates:
        claim = f"A warmer misleading teacher does less harm to {gate}"
        warmer = tests.get((WARMER, gate))
        if warmer is None:
            yield Verdict(claim, "not tested", "It needs setting cross and two temperatures.")
            continue
        alone = summary.of(MAIN, None).final.value
        harm = ", ".join(
            f"{way.temperature:g}: {summary.of(gate, way).final.value - alone:+.2f}" for way in ways
        )
        outcome = {1: "shown", 0: "not shown", -1: "reversed"}[warmer.sign]
        yield Verdict(
            claim,
            outcome,
            f"Final return above main-only by temperature: {harm}; from {ways[0].temperature:g} to "
            f"{ways[-1].temperature:g} {_words(warmer)}.",
        )


def _coldest(config: SweepConfig, setting: Setting) -> Teaching | None:
    if setting not in config.settings:
        return None
    return Teaching(setting, min(config.temperatures))


def _others(config: SweepConfig) -> list[str]:
    return [gate for gate in config.gates if gate != SUM]


def _at(teaching: Teaching) -> str:
    return f"With setting {teaching.setting} at temperature {teaching.temperature:g}"


def _ends(summary: Summary, gate: str, teaching: Teaching) -> str:
    own, alone = summary.of(gate, teaching).final, summary.of(MAIN, None).final
    return f"{gate} ends at {own.value:.2f} and main-only at {alone.value:.2f}"


def _words(difference: Difference) -> str:
    return (
        f"{difference.value:+.2f} (95 % {difference.low:+.2f} to {difference.high:+.2f}, "
        f"corrected p = {difference.p:.2g})"
    )
