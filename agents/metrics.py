"""Averages of scalars over many updates, on the device until a log line is due."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from agents.processes import ALONE, Processes


class RunningMean:
    """Means of named scalars; entries that are NaN ("not measured this time") do not count.

    Updates may differ in what they measure: only some of them judge the gradients.  A
    name that was measured once stays, as NaN, in all later means.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self._processes = processes
        # Sums and counts together, [2, names], for each set of names that ever came.
        self._totals: dict[tuple[str, ...], Float[Tensor, "2 names"]] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds one update's scalars without waiting for the device."""
        if not metrics:
            return
        values = torch.stack([value.detach().float() for value in metrics.values()])
        counted = ~values.isnan()
        entry = torch.stack([torch.where(counted, values, 0.0), counted.float()])
        names = tuple(metrics)
        self._totals[names] = self._totals[names] + entry if names in self._totals else entry

    def drain(self) -> dict[str, float]:
        """Fetches the means in one transfer and starts again; NaN where nothing was measured.

        Of several processes' numbers the means are taken; all of them must drain together.
        """
        if not self._totals:
            return {}
        totals = torch.cat(list(self._totals.values()), dim=1)
        sums, counts = self._processes.sum(totals).tolist()
        for total in self._totals.values():
            total.zero_()
        return _means(list(chain.from_iterable(self._totals)), sums, counts)


def averaged(
    several: Sequence[Mapping[str, Tensor]], latest: Collection[str] = ()
) -> dict[str, Tensor]:
    """Means over several updates on the device, without waiting; NaN entries do not count.

    Args:
        several: scalars by name of each update, in order; updates may differ in what they measure.
        latest: counts, of which the last one is taken instead.
    """
    if len(several) == 1:
        return dict(several[0])
    gathered: dict[str, list[Tensor]] = {}
    for metrics in several:
        for name, value in metrics.items():
            gathered.setdefault(name, []).append(value)
    return {
        name: values[-1] if name in latest else torch.stack(values).nanmean()
        for name, values in gathered.items()
    }


def _means(
    names: Sequence[str], sums: Sequence[float], counts: Sequence[float]
) -> dict[str, float]:
    """Means by name; the same name may come several times."""
    total = dict.fromkeys(names, 0.0)
    count = dict.fromkeys(names, 0.0)
    for name, its_sum, its_count in zip(names, sums, counts, strict=True):
        total[name] += its_sum
        count[name] += its_count
    return {name: total[name] / count[name] if count[name] else float("nan") for name in total}
