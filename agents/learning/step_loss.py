"""A loss of single steps: its mean, random combinations of its steps, its slices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.algorithms import Algorithm, MainLoss
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar

Steps = tuple[Float[Tensor, "..."], Bool[Tensor, "..."]]
"""Numbers of every step, and which of them count, of the same shape."""


@dataclass(frozen=True)
class StepLoss:
    """A loss of every step, multiplied by its coefficient already."""

    share: Float[Tensor, ""]
    """This process's part of the mean over the valid steps of all processes."""
    mean: Float[Tensor, ""]
    """That mean, without gradient."""
    steps: Float[Tensor, " *shape"]
    """Environments, or whatever columns a head has, come last."""
    valid: Bool[Tensor, " *shape"]
    number: Int[Tensor, ""]
    """How many valid steps all processes have; 1 if there are none."""

    @staticmethod
    def of(
        steps: Float[Tensor, " *shape"],
        valid: Bool[Tensor, " *shape"],
        processes: Processes = ALONE,
    ) -> "StepLoss":
        """Masks and averages a single loss, as `step_losses` does several.

        Args:
            steps: the loss of every step.
            valid: which steps count.
            processes: over whose valid steps the mean is.
        """
        ((loss,), _) = step_losses([(steps, valid)], processes)
        return loss

    def times(self, coefficient: Scalar) -> "StepLoss":
        """Multiplies the loss by its coefficient."""
        share, mean, steps = (coefficient * x for x in (self.share, self.mean, self.steps))
        return replace(self, share=share, mean=mean, steps=steps)

    def plus(self, other: "StepLoss") -> "StepLoss":
        """Adds another loss of the same steps."""
        share, mean = self.share + other.share, self.mean + other.mean
        return replace(self, share=share, mean=mean, steps=self.steps + other.steps)

    def combined(self, factor: Float[Tensor, " *shape"]) -> Float[Tensor, ""]:
        """This process's part of the mean of the valid steps, each times its own factor."""
        return _kept(factor * self.steps, self.valid).sum() / self.number

    def sliced(self, count: int) -> tuple[Float[Tensor, ""], ...]:
        """Splits `share` by environments into `count` slices, which add up to it.

        Neighbouring environments make a slice; sizes differ by one environment at most.
        """
        columns = self.steps.shape[-1]
        part = _kept(self.steps, self.valid).reshape(-1, columns).sum(0) / self.number
        number = torch.arange(columns, device=part.device) * count // columns
        return part.new_zeros(count).index_add(0, number, part).unbind()


def step_losses(
    losses: Sequence[Steps], processes: Processes = ALONE, also: Sequence[Tensor] = ()
) -> tuple[list[StepLoss], list[Tensor]]:
    """Masks and averages losses, with one message between all processes.

    Args:
        losses: of every step, and which steps count.
        processes: over whose valid steps the means are.
        also: what else the message gathers.

    Returns:
        The losses, and what was gathered (see `Processes.gather`).
    """
    sums = [_kept(steps, valid).sum() for steps, valid in losses]
    counts = {id(valid): valid.sum() for _, valid in losses}  # most losses have the same mask
    # A count for each loss: which of them share a mask may differ between processes.
    added = [*sums, *(counts[id(valid)] for _, valid in losses)]
    totals, gathered = processes.combine(added, also)
    found = []
    for index, (steps, valid) in enumerate(losses):
        number = totals[len(losses) + index].clamp(min=1)
        share, mean = sums[index] / number, totals[index] / number
        found.append(StepLoss(share, mean, steps, valid, number))
    return found, gathered


def _kept(steps: Float[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]) -> Tensor:
    """The valid steps; the others, which may be NaN, are replaced by 0."""
    return torch.where(valid, steps, 0.0)


MainPart = Literal["all", "policy", "return"]
"""What auxiliaries are compared with: the main loss, its policy and entropy terms, or its policy
term alone, whose descent raises the expected return."""


@dataclass(frozen=True)
class MainTerms:
    """The terms of the main loss, each with its weight."""

    policy: StepLoss
    value: StepLoss
    entropy: StepLoss
    """The entropy bonus with a minus sign, since the loss is descended."""

    @cached_property
    def whole(self) -> StepLoss:
        """The main loss."""
        return self.policy.plus(self.value).plus(self.entropy)

    @property
    def actor(self) -> StepLoss:
        """The terms of policy and entropy."""
        return self.policy.plus(self.entropy)

    def divided(self, part: MainPart) -> tuple[StepLoss, StepLoss | None]:
        """Returns the part that auxiliaries are compared with, and the rest of the main loss."""
        match part:
            case "all":
                return self.whole, None
            case "policy":
                return self.actor, self.value
            case "return":
                return self.policy, self.value.plus(self.entropy)


def in_unit(main: MainLoss, algorithm: Algorithm, unit: Float[Tensor, ""]) -> MainLoss:
    """Divides advantages and the value's errors by the unit of values.

    Args:
        main: of every step.
        algorithm: may have taken care of the advantages.
        unit: of the values.
    """
    policy = algorithm.in_unit(main.policy, unit)
    return replace(main, policy=policy, value=main.value / unit.square())


def averaged_of(main: MainLoss, valid: Bool[Tensor, "T B"]) -> list[Steps]:
    """What is averaged of a main loss, for `main_terms`: its terms, then what is logged of it."""
    terms = main.policy, main.value, main.entropy, *main.metrics.values()
    return [(steps, valid) for steps in terms]


def main_terms(
    main: MainLoss, averaged: Sequence[StepLoss], algorithm: Algorithm
) -> tuple[MainTerms, dict[str, Tensor]]:
    """Returns what to descend, and the numbers for the log.

    Args:
        main: of every step.
        averaged: of `averaged_of`, in its order.
        algorithm: has the weights of the terms.
    """
    policy, value, entropy, *others = averaged
    means = zip(main.metrics, others, strict=True)
    metrics = {"policy_loss": policy.mean, "value_loss": value.mean, "entropy": entropy.mean}
    metrics |= {name: loss.mean for name, loss in means}
    terms = MainTerms(
        policy,
        value.times(algorithm.value_coefficient),
        entropy.times(-algorithm.entropy_coefficient),
    )
    return terms, metrics
