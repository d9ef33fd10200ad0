"""A loss of single steps: its mean, random combinations of its steps, its slices."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.algorithms import Algorithm, MainLoss
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
from agents.statistics import explained_variance
from agents.trajectory import AgentOutput, Trajectory


@dataclass(frozen=True)
class StepLoss:
    """A loss of every step, multiplied by its coefficient already."""

    share: Float[Tensor, ""]
    """This process's part of the mean over the valid steps of all processes."""
    steps: Float[Tensor, " *shape"]
    """Environments, or whatever columns a head has, come last."""
    valid: Bool[Tensor, " *shape"]

    @staticmethod
    def of(
        steps: Float[Tensor, " *shape"],
        valid: Bool[Tensor, " *shape"],
        processes: Processes = ALONE,
    ) -> "StepLoss":
        """Masks and averages a loss.

        Args:
            steps: the loss of every step.
            valid: which steps count.
            processes: over whose valid steps the mean is.
        """
        return StepLoss(processes.share(steps, valid), steps, valid)

    def times(self, coefficient: Scalar) -> "StepLoss":
        """Multiplies the loss by its coefficient."""
        return StepLoss(coefficient * self.share, coefficient * self.steps, self.valid)

    def combined(
        self, factor: Float[Tensor, " *shape"], processes: Processes = ALONE
    ) -> Float[Tensor, ""]:
        """This process's part of the mean of the valid steps, each times its own factor."""
        return processes.share(factor * self.steps, self.valid)

    def sliced(self, count: int, processes: Processes = ALONE) -> tuple[Float[Tensor, ""], ...]:
        """Splits `share` by environments into `count` slices, which add up to it.

        Neighbouring environments make a slice; sizes differ by one environment at most.
        """
        columns = self.steps.shape[-1]
        kept = torch.where(self.valid, self.steps, 0.0).reshape(-1, columns).sum(0)
        part = kept / processes.sum(self.valid.sum()).clamp(min=1)
        number = torch.arange(columns, device=part.device) * count // columns
        return part.new_zeros(count).index_add(0, number, part).unbind()


@dataclass(frozen=True)
class MainTerms:
    """The main loss, and the two parts that it is the sum of."""

    whole: StepLoss
    policy: StepLoss
    """Policy gradient and entropy bonus."""
    value: StepLoss


def main_terms(
    main: MainLoss,
    output: AgentOutput,
    trajectory: Trajectory,
    algorithm: Algorithm,
    processes: Processes,
    unit: Tensor | None = None,
) -> tuple[MainTerms, dict[str, Tensor]]:
    """Returns what to descend, and the numbers for the log.

    Args:
        main: of every step.
        output: of the agent, whose values are compared with their targets.
        trajectory: says which steps are valid.
        algorithm: has the weights of the terms.
        processes: over whose steps the means are.
        unit: of the values, by which advantages and errors are divided.
    """
    valid = trajectory.valid
    if unit is not None:
        policy = main.policy if algorithm.normalizes_advantage else main.policy / unit
        main = replace(main, policy=policy, value=main.value / unit.square())
    policy, value, entropy = (
        processes.share(part, valid) for part in (main.policy, main.value, main.entropy)
    )
    metrics = {
        "policy_loss": processes.sum(policy),
        "value_loss": processes.sum(value),
        "entropy": processes.sum(entropy),
        "explained_variance": explained_variance(
            output.value[:-1].detach() if main.estimate is None else main.estimate,
            main.value_target,
            valid,
            processes,
        ),
    }
    metrics |= {name: processes.mean(number, valid) for name, number in main.metrics.items()}
    # The same sums twice: of the means, and of every step.
    shares = _weighed(algorithm, policy, value, entropy)
    steps = _weighed(algorithm, main.policy, main.value, main.entropy)
    whole, of_policy, of_value = (
        StepLoss(*pair, valid) for pair in zip(shares, steps, strict=True)
    )
    return MainTerms(whole, of_policy, of_value), metrics


def _weighed(
    algorithm: Algorithm, policy: Tensor, value: Tensor, entropy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The main loss, its policy part, its value part."""
    value = algorithm.value_coefficient * value
    bonus = algorithm.entropy_coefficient * entropy
    return policy + value - bonus, policy - bonus, value
