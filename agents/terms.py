"""The terms of the main loss: masked, averaged and weighed, once."""

from dataclasses import dataclass

from torch import Tensor

from agents.losses import Algorithm, MainLoss
from agents.masked import explained_variance
from agents.processes import Processes
from agents.steploss import StepLoss
from agents.types import AgentOutput, Trajectory


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
) -> tuple[MainTerms, dict[str, Tensor]]:
    """Returns what to descend, and the numbers for the log.

    Args:
        main: of every step.
        output: of the agent, whose values are compared with their targets.
        trajectory: says which steps are valid.
        algorithm: has the weights of the terms.
        processes: over whose steps the means are.
    """
    valid = trajectory.valid
    policy, value, entropy = (
        processes.share(part, valid) for part in (main.policy, main.value, main.entropy)
    )
    metrics = {
        "policy_loss": processes.sum(policy),
        "value_loss": processes.sum(value),
        "entropy": processes.sum(entropy),
        "explained_variance": explained_variance(
            output.value[:-1].detach(), main.value_target, valid, processes
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
