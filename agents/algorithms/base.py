"""The contract of main losses: an actor-critic's policy, value and entropy terms, per step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
from agents.trajectory import AgentOutput, Targets, Trajectory


@dataclass(frozen=True)
class MainLoss:
    """The terms of every step, before masking, averaging and weighting."""

    policy: Float[Tensor, "T B"]
    value: Float[Tensor, "T B"]
    entropy: Float[Tensor, "T B"]
    """Entropy of the policy, in nats (a bonus: the learner subtracts it)."""
    value_target: Float[Tensor, "T B"]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """More numbers of every step `[T, B]`, whose means are logged."""
    estimate: Float[Tensor, "T B"] | None = None
    """The values that were compared with the target; None: those of the agent's output."""


@dataclass(frozen=True)
class PhaseBatch:
    """What one update of an algorithm's auxiliary phase learns from."""

    trajectory: Trajectory
    targets: Targets

    def select(self, environments: Int[Tensor, " B2"]) -> "PhaseBatch":
        """Restricts the phase to some environments, which is one update."""
        return PhaseBatch(self.trajectory.select(environments), self.targets.select(environments))


@dataclass(frozen=True)
class PhaseLoss:
    """The losses of one update of an auxiliary phase, per step."""

    main: Float[Tensor, "T B"]
    """Compared with, and not descended."""
    auxiliary: Float[Tensor, "T B"]
    """Passes the gate like a head's loss."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """More numbers of every step `[T, B]`, whose means are logged."""


class Algorithm(nn.Module, ABC):
    """An actor-critic's main loss, and what else its method needs.

    Most algorithms are a loss alone. One that owns modules makes them in `attach`; the learner
    optimises and saves them, apart from the agent's. One with a further phase keeps what that
    phase learns from (`phase_batches`) and says what it descends (`phase_loss`); its losses pass
    the gate like a head's. State outside parameters and buffers belongs in `get_extra_state`.
    """

    value_coefficient: float
    entropy_coefficient: float
    epochs: int = 1
    """How often the learner goes over a trajectory."""
    minibatches: int = 1
    """Slices of environments, each of which is one update."""
    max_kl: float | None = None
    """No further epoch once the mean `approximate_kl` of one is above this."""
    needs_value: bool = False
    """Whether `Trajectory.value` must be recorded."""
    capturable: bool = False
    """Whether `prepare` and `loss` may be captured in CUDA graphs: the same operations at every
    call, no host number that changes but `progress`, and no memory outside of buffers."""
    has_value_target: bool = True
    """Whether the loss says what the value should be, which the agent's `value_scale` learns."""
    normalizes_advantage: bool = False
    """Whether the policy's loss does not depend on the scale of rewards anyway."""
    phase_trains: tuple[str, ...] = ()
    """Parts of the agent that the auxiliary phase's loss shares with the main loss; empty where
    there is no such phase."""

    phase_minibatches: int = 1
    """Slices of environments of each trajectory in the auxiliary phase."""

    def attach(self, agent: ActorCritic) -> None:
        """Makes the modules that the algorithm owns; called once, before the optimizers are made.

        Args:
            agent: that will learn; it is never kept as a submodule.

        Raises:
            ValueError: the algorithm cannot be used with such an agent.
        """

    def prepare(self, trajectory: Trajectory) -> Targets:
        """Computes what stays the same over all epochs: once per trajectory, without gradient."""
        return Targets()

    @abstractmethod
    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: Scalar = 0.0,
    ) -> MainLoss:
        """Computes the loss of every step.

        Args:
            output: of the agent as it is now.
            trajectory: the whole, or a minibatch.
            targets: from `prepare`, of the same environments.
            progress: how much of the run is over, from 0 to 1, for schedules; in a CUDA graph it
                is a float64 tensor.
        """

    def in_unit(
        self, policy: Float[Tensor, "*steps"], unit: Float[Tensor, ""]
    ) -> Float[Tensor, "*steps"]:
        """Divides the policy's loss by the unit of values, unless advantages are normalised.

        Args:
            policy: its loss, in which advantages are in the unit of rewards.
            unit: of the agent's `value_scale`.
        """
        return policy if self.normalizes_advantage else policy / unit

    def value_layers(self, agent: ActorCritic) -> Sequence[nn.Linear]:
        """Layers whose output is a value in units of the agent's `value_scale`."""
        return [agent.value]

    def phase_batches(
        self, trajectory: Trajectory, targets: Targets, shuffling: torch.Generator
    ) -> Iterator[PhaseBatch]:
        """Hands out what an auxiliary phase learns from, one update after the other.

        The learner asks after every trajectory; most of the time nothing is due.

        Args:
            trajectory: that was just learnt from.
            targets: from `prepare`.
            shuffling: random numbers, on the host.
        """
        yield from ()

    def phase_loss(
        self, output: AgentOutput, trajectory: Trajectory, targets: Targets, progress: Scalar
    ) -> PhaseLoss:
        """Computes the losses of one update of the auxiliary phase.

        Args:
            output: of the agent as it is now.
            trajectory: of a `PhaseBatch`.
            targets: of the same.
            progress: how much of the run is over, from 0 to 1, for schedules.

        Raises:
            NotImplementedError: the algorithm has no auxiliary phase.
        """
        raise NotImplementedError(f"{type(self).__name__} has no auxiliary phase")


def entropy(logits: Float[Tensor, "*batch A"]) -> Float[Tensor, " *batch"]:
    """-sum_a p(a) log p(a), in nats."""
    log_probabilities = logits.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def log_probability(
    logits: Float[Tensor, "*batch A"], action: Int[Tensor, " *batch"]
) -> Float[Tensor, " *batch"]:
    """Log-probability of the action under softmax(logits)."""
    return logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def approximate_kl(log_ratio: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
    """(r - 1) - log r, whose mean over actions of mu is KL(mu, pi).

    Never negative, and of lower variance than -log r (Schulman 2020,
    http://joschu.net/blog/kl-approx.html).

    Args:
        log_ratio: log pi(a) - log mu(a), mu the policy that acted.
    """
    # Between policies that are nearly alike, exp(x) - 1 - x would be noise of either sign.
    return log_ratio.expm1() - log_ratio


@dataclass(frozen=True)
class NoneConfig:
    """No main loss: the auxiliary heads alone train the agent (through the gate `sum`)."""

    def build(self, discount: float, processes: Processes = ALONE) -> "Nothing":
        """Makes the loss; there is nothing to discount."""
        return Nothing()


class Nothing(Algorithm):
    """Zero; the entropy is computed for the log."""

    value_coefficient = 0.0
    entropy_coefficient = 0.0
    capturable = True
    has_value_target = False

    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: Scalar = 0.0,
    ) -> MainLoss:
        """Computes zeros and the policy's entropy."""
        zeros = torch.zeros_like(trajectory.reward)
        # A main loss has a graph, even if its gradient is zero.
        nothing = 0.0 * output.logits[:-1].sum(-1)
        return MainLoss(nothing, zeros, entropy(output.logits[:-1]), zeros)
