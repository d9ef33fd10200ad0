"""H and L of gates: the shares of the help and of the harm of auxiliaries that they let through.

help kept    H = (gate - main) / (sum - main)    on tasks whose auxiliary helps
harm let in  L = (main - gate) / (main - sum)    on tasks whose auxiliary harms
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from experiments.statistics import Estimate, Interval, percentiles, resampled_means
from experiments.sweep.arms import MAIN

SUM, REFERENCE = "sum", "cosine"
HELPS, HARMS, OPEN = "helps", "harms", "open"


@dataclass(frozen=True)
class Score:
    """One measure of one arm."""

    source: str
    """The sweep or study; arms of one source are compared with each other."""
    task: str
    """Empty for main-only learning."""
    gate: str
    measure: str
    values: Mapping[int, float]
    """By the number of the world or the seed."""


@dataclass(frozen=True)
class Task:
    """What an auxiliary does when it is added up."""

    source: str
    measure: str
    task: str
    units: int
    """Worlds or seeds."""
    main: float
    sum: float
    difference: Estimate
    """`sum` less main-only."""

    @property
    def kind(self) -> str:
        """Whether the auxiliary helps, harms, or neither is shown."""
        return HELPS if self.difference.low > 0 else HARMS if self.difference.high < 0 else OPEN


@dataclass(frozen=True)
class Share:
    """How much of the help or harm a gate lets through."""

    source: str
    measure: str
    gate: str
    share: str
    """`helps`: of the help; `harms`: of the harm."""
    task: str
    """Empty: the mean over all tasks of the kind that every gate was measured on."""
    units: int
    value: Estimate
    less_cosine: Estimate | None
    """The share less that of `cosine`; None without it."""


def tasks_of(scores: Sequence[Score]) -> list[Task]:
    """What each auxiliary does through `sum`."""
    found = []
    for (source, measure), arms in _groups(scores).items():
        columns, keys = _columns(arms)
        means, replicates = columns.mean(0), resampled_means(columns)
        main = keys.index(("", MAIN))
        for place, (task, gate) in enumerate(keys):
            if gate == SUM:
                low, high = percentiles(replicates[:, place] - replicates[:, main])
                between = Interval(float(low), float(high))
                own, alone = float(means[place]), float(means[main])
                difference = Estimate(own - alone, between)
                found.append(Task(source, measure, task, len(columns), alone, own, difference))
    return found


def shares_of(scores: Sequence[Score]) -> list[Share]:
    """H and L of every gate, on each task that counts and on all of a kind together."""
    kinds = {(task.source, task.measure, task.task): task.kind for task in tasks_of(scores)}
    found = []
    for (source, measure), arms in _groups(scores).items():
        columns, keys = _columns(arms)
        # The first row is the data, the others are replicates.
        means = np.concatenate([columns.mean(0)[None], resampled_means(columns)])
        above = means - means[:, [keys.index(("", MAIN))]]
        gates = list(dict.fromkeys(gate for _, gate in keys if gate != MAIN))
        every = [
            task
            for task in dict.fromkeys(task for task, _ in keys if task)
            if all((task, gate) in keys for gate in gates)
        ]
        for share in (HELPS, HARMS):
            counted = [
                task for task, gate in keys if gate == SUM and kinds[source, measure, task] == share
            ]
            ratio = {
                key: above[:, place] / above[:, keys.index((key[0], SUM))]
                for place, key in enumerate(keys)
                if key[0] in counted
            }
            together = [task for task in counted if task in every]
            wanted = [("", together)] * bool(together) + [(task, [task]) for task in counted]
            for label, tasks in wanted:
                for gate in gates:
                    if not all((task, gate) in ratio for task in tasks):
                        continue
                    own = _mean(ratio, tasks, gate)
                    less = None
                    if all((task, REFERENCE) in ratio for task in tasks):
                        less = _estimate(own - _mean(ratio, tasks, REFERENCE))
                    arm = Share(
                        source, measure, gate, share, label, len(columns), _estimate(own), less
                    )
                    found.append(arm)
    return found


def _groups(scores: Sequence[Score]) -> dict[tuple[str, str], list[Score]]:
    found: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        found.setdefault((score.source, score.measure), []).append(score)
    return found


def _columns(
    arms: Sequence[Score],
) -> tuple[Float[np.ndarray, "units M"], list[tuple[str, str]]]:
    """One column per arm, over the worlds or seeds that all arms have.

    Raises:
        ValueError: they have none in common, or main-only or `sum` is missing.
    """
    shared = sorted(set.intersection(*(set(arm.values) for arm in arms)))
    keys = [(arm.task, arm.gate) for arm in arms]
    taught = {task for task, gate in keys if gate != MAIN}
    if not shared or ("", MAIN) not in keys or not all((task, SUM) in keys for task in taught):
        raise ValueError(
            f"{arms[0].source}: main-only learning, sum on every task and a world or seed that all "
            "arms have are needed: measure for longer."
        )
    return np.array([[arm.values[unit] for arm in arms] for unit in shared]), keys


def _mean(
    ratio: Mapping[tuple[str, str], Float[np.ndarray, " _"]], tasks: Sequence[str], gate: str
) -> Float[np.ndarray, " _"]:
    return np.asarray(np.mean([ratio[task, gate] for task in tasks], axis=0))


def _estimate(values: Float[np.ndarray, " _"]) -> Estimate:
    """Of the data, then of its replicates."""
    low, high = percentiles(values[1:])
    return Estimate(float(values[0]), Interval(float(low), float(high)))


def better(shares: Sequence[Share]) -> dict[tuple[str, str], list[str]]:
    """The gates that keep more help and let in less harm than `cosine`, both outside intervals.

    Returns:
        The gates' names by source and measure; empty where none does.
    """
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for share in shares:
        of_gate = found.setdefault((share.source, share.measure), {}).setdefault(share.gate, set())
        less = share.less_cosine
        if share.task or less is None:
            continue
        if (less.low > 0) if share.share == HELPS else (less.high < 0):
            of_gate.add(share.share)
    return {
        group: [gate for gate, won in gates.items() if won == {HELPS, HARMS}]
        for group, gates in found.items()
    }
