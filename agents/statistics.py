"""Statistics over valid steps, and means of metrics over updates.

`normalized`, `masked_mean` and `explained_variance` ignore autoreset steps; `RunningMean`
averages scalars on the device until a log line needs them.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from agents.runtime.distributed import ALONE, Processes


def normalized(
    advantage: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    processes: Processes = ALONE,
    least: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "T B"]:
    """Shifts and scales to zero mean and unit variance over the valid steps; 0 at the others.

    Mean and variance are those of all processes together, the variance the population's (divided
    by the number of steps).

    Args:
        advantage: of every step; may hold anything where `valid` is False.
        valid: the steps that count.
        processes: share the batch.
        least: deviation to divide by where the advantages' own is smaller; the variance is then
            below 1.  None: their own in any case.
    """
    every = pooled(processes.gather(moments(advantage, valid)))
    centred = torch.where(valid, advantage - every.mean, 0.0)
    deviation = every.variance.sqrt()
    if least is not None:
        deviation = torch.maximum(deviation, least)
    # As in PPO's codes; the constant matters only where all advantages are alike.
    return centred / (deviation + 1e-8)


def returns_so_far(
    earned: Float[Tensor, " B"], reward: Float[Tensor, "T B"], ends: Bool[Tensor, "T B"]
) -> Float[Tensor, "T B"]:
    """What each episode has earned up to and with each step; at its end, its return.

    Args:
        earned: by the episodes under way, before the first step.
        reward: of each step; 0 at steps of no episode.
        ends: whether the episode ends with the step.
    """
    total = earned + reward.cumsum(0)
    time = torch.arange(len(total), device=total.device).unsqueeze(-1)
    last = torch.where(ends, time, -1).cummax(0).values  # the last end up to each step
    before = torch.cat([torch.full_like(last[:1], -1), last[:-1]])
    gone = torch.where(before >= 0, total.gather(0, before.clamp(min=0)), 0.0)
    return total - gone


WINDOW = 100
"""Episodes over which `ReturnSums` forgets."""


class ReturnSums:
    """Mean return of about the last `WINDOW` episodes, and how well it is known.

    For N learners apart; nothing waits for the device.
    """

    def __init__(self, sums: Float[Tensor, "3 N"]) -> None:
        """Continues from sums of weights, weighted returns and weighted squares; changes them."""
        self.sums = sums

    def add(self, returned: Float[Tensor, "episodes N"], ends: Bool[Tensor, "episodes N"]) -> None:
        """Adds episodes.

        Args:
            returned: their returns.
            ends: which of them have ended; the others do not count.
        """
        counted = ends.float()
        paid = torch.where(ends, returned, 0.0)
        found = torch.stack([counted.sum(0), paid.sum(0), paid.square().sum(0)])
        self.sums.mul_((1 - 1 / WINDOW) ** found[0]).add_(found)

    def mean_and_variance(self) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """The mean, and its squared standard error; infinite before two episodes have ended."""
        weight, total, square = self.sums
        mean = total / weight.clamp(min=1.0)
        spread = (square / weight.clamp(min=1.0) - mean.square()).clamp(min=0.0)
        # The first of two episodes counts for a little less than one.
        return mean, torch.where(weight > 1.5, spread / (weight - 1).clamp(min=0.5), torch.inf)


def certainty(
    lead: Float[Tensor, "*batch"], variance: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """How sure it is that a difference is above zero: max(0, 2 Phi(lead / deviation) - 1).

    Args:
        lead: the difference as measured.
        variance: its squared standard error.
    """
    deviation = variance.sqrt().clamp(min=1e-12)
    return torch.erf(lead / (2**0.5 * deviation)).clamp(min=0.0)


class RunningMean:
    """Means of named scalars over many updates, kept on the device until `drain`.

    Entries that are NaN ("not measured this time") do not count.

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


def masked_mean(value: Shaped[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]) -> Tensor:
    """Mean over the valid entries of this process; 0 where there are none.

    What stands at invalid entries is replaced, not multiplied by zero: it may be NaN.
    """
    kept = torch.where(valid, value, torch.zeros_like(value))
    return kept.sum() / valid.sum().clamp(min=1)


def explained_variance(
    value: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], valid: Bool[Tensor, "*lead"]
) -> Float[Tensor, ""]:
    """1 - Var(target - value) / Var(target) over the valid entries; NaN for a constant target.

    Of vectors, the variances of their entries are added up.

    Args:
        value: numbers, or vectors along the axes that `valid` does not have.
        target: what they predict.
        valid: which entries count; the others may be NaN.
    """
    return explained(moments(target, valid), moments(target - value, valid))


def explained(target: "Moments", error: "Moments") -> Float[Tensor, ""]:
    """The explained variance, of the moments of targets and of what predictions miss them by."""
    spread, rest = target.variance.sum(), error.variance.sum()
    return torch.where(spread > 0, 1 - rest / spread, torch.nan)


def explained_variances(
    value: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], valid: Bool[Tensor, "*lead"]
) -> Float[Tensor, "*rest"]:
    """Computes `explained_variance` for each entry of vectors, such as one per horizon.

    Args:
        value: the predictions.
        target: what they should be.
        valid: the steps that count; its dimensions lead those of `value`.

    Returns:
        One number for each entry, over all valid steps; NaN for a constant target.
    """
    spread, rest = (moments(x, valid).variance for x in (target, target - value))
    return torch.where(spread > 0, 1 - rest / spread, torch.nan)


class Moments(NamedTuple):
    """What the variance of valid entries is computed from; of vectors, entry by entry."""

    number: Shaped[Tensor, ""]
    mean: Float[Tensor, " *rest"]
    squares: Float[Tensor, " *rest"]
    """Sum of the squared deviations from the mean."""

    @property
    def variance(self) -> Float[Tensor, " *rest"]:
        """Of the population; 0 where there are no entries."""
        return self.squares / self.number.clamp(min=1)


@torch.no_grad()
def moments(x: Float[Tensor, "*shape"], valid: Bool[Tensor, "*lead"]) -> Moments:
    """Computes the moments of the valid entries; all are 0 if there are none.

    Args:
        x: numbers, or vectors along the axes that `valid` does not have.
        valid: which entries count; the others may be NaN.
    """
    counts = valid.reshape(*valid.shape, *[1] * (x.dim() - valid.dim()))
    lead = tuple(range(valid.dim()))
    number = valid.sum()
    mean = torch.where(counts, x, 0.0).sum(lead) / number.clamp(min=1)
    squares = torch.where(counts, (x - mean).square(), 0.0).sum(lead)
    return Moments(number, mean, squares)


def pooled(several: Sequence[Tensor]) -> Moments:
    """The moments of all entries together, from those of N parts (Chan et al. 1979).

    Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", eq. 2.1, for more than two parts.

    Args:
        several: numbers, means and squares, each of all parts, stacked.
    """
    numbers, means, squares = several
    if len(numbers) == 1:
        return Moments(numbers[0], means[0], squares[0])
    number = numbers.sum(0)
    mean = (numbers * means).sum(0) / number.clamp(min=1)
    between = numbers * (means - mean).square()
    return Moments(number, mean, (squares + between).sum(0))
