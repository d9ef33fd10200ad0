"""What the curves come to: returns, paired differences, and how far main-only learning came."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.sweep.arms import MAIN, Arm, Teaching, teachings
from experiments.sweep.estimates import Difference, Estimate, differences, estimates
from experiments.sweep.folder import Results

SUM = "sum"
TAIL = 0.1
"""Of a curve, in which main-only learning should have come to rest."""


@dataclass(frozen=True)
class Score:
    """One arm, by its final return and by the mean of its curve (the area under it)."""

    arm: Arm
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
    """What each teacher earns in the students' worlds."""
    optimum: Estimate
    random: Estimate
    share_of_optimum: float
    """Main-only at its end: how far from random (0) to the optimum (1)."""
    drift: float
    """By how much main-only moves in the last tenth, as a fraction of its range."""
    cells: float
    """On which one can come to act, a world."""
    aliased: float

    def of(self, gate: str, teaching: Teaching | None) -> Score:
        """The score of one arm."""
        return next(score for score in self.scores if score.arm == Arm(gate, teaching))

    def to_json(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "optimum": asdict(self.optimum),
            "random": asdict(self.random),
            "main_only_share_of_optimum": self.share_of_optimum,
            "main_only_drift_in_last_tenth": self.drift,
            "cells": self.cells,
            "aliased_cells": self.aliased,
            "teachers": [asdict(key) | asdict(value) for key, value in self.teachers.items()],
            "arms": [asdict(score) for score in self.scores],
        }


def summarise(results: Results) -> Summary:
    """Sums up a sweep."""
    arms = results.arms
    final, area = results.final(), results.area()
    main = [arms.index(Arm(MAIN, None))] * len(arms)
    plain = [
        arms.index(Arm(SUM, arm.teaching)) if Arm(SUM, arm.teaching) in arms else number
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
        against_sum = taught and arm.gate != SUM and Arm(SUM, arm.teaching) in arms
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
        share_of_optimum=float((learnt[-1] - idle.mean) / (optimum.mean - idle.mean)),
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
