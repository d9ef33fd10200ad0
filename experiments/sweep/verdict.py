"""What the sweep says about the claims of Du et al. 2018, in words; also where it says no.

https://arxiv.org/abs/1812.02224, Figure 4: a teacher from another world, the colder the
worse, pulls plain adding below learning alone, which a gate prevents; a perfect teacher
is best trusted everywhere, which a gate cannot know.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from configs.sweep import Setting
from experiments.sweep.arms import MAIN, Teaching, teachings
from experiments.sweep.estimates import Difference, differences
from experiments.sweep.folder import Results
from experiments.sweep.summary import SUM, Score, Summary

REST = 0.01
"""Main-only learning has come to rest if it moves less in its last tenth, of its range."""
ENOUGH = 0.85
"""It has learnt enough if it comes so far from random to the optimum."""


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
    """Judges each claim by final returns."""
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
        f"{score.arm.gate} ends at {score.final.mean:.2f} and main-only at {alone.mean:.2f}, "
        f"{_words(_versus_main(score))}"
    )


def _to_sum(score: Score) -> str:
    against = score.final_against_sum
    return "" if against is None else f"; against sum {_words(against)}"


def _words(difference: Difference) -> str:
    return (
        f"{difference.mean:+.2f} (95 % {difference.low:+.2f} to {difference.high:+.2f}, "
        f"p = {difference.p:.2g})"
    )
