"""Advantage actor-critic (Mnih et al. 2016) with V-trace (Espeholt et al. 2018)."""

from dataclasses import dataclass

from agents.algorithms.base import Algorithm, MainLoss, approximate_kl, entropy, log_probability
from agents.algorithms.returns import vtrace
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
from agents.statistics import normalized
from agents.trajectory import AgentOutput, Targets, Trajectory
from gridworld.options import at_least, require


@dataclass(frozen=True)
class A2CConfig:
    """Advantage actor-critic (Mnih et al. 2016) with V-trace (Espeholt et al. 2018)."""

    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus (0.01 in OpenAI Baselines' a2c)."""
    value_coefficient: float = 0.5
    """Weight of the value loss (0.5 in OpenAI Baselines' a2c)."""
    trace: float = 1.0
    """Lambda of V-trace: 1 = n-step returns, 0 = one-step differences."""
    rho_clip: float = 1.0
    """Bound of the importance ratio in targets and advantages (1 in IMPALA)."""
    c_clip: float = 1.0
    """Bound of the importance ratio in the trace (1 in IMPALA)."""
    normalize_advantage: bool = False
    """Give the advantages of each update zero mean and unit variance over its valid steps."""

    def __post_init__(self) -> None:
        at_least(self, 0, "entropy_coefficient", "value_coefficient")
        require(self, "trace", 0 <= self.trace <= 1, "between 0 and 1")
        for name in ("rho_clip", "c_clip"):
            require(self, name, getattr(self, name) > 0, "above 0")

    def build(self, discount: float, processes: Processes = ALONE) -> "A2C":
        """Makes the loss for a discount per agent step."""
        return A2C(self, discount, processes)


class A2C(Algorithm):
    """-A log pi(a) + c_v (v - V)^2 / 2 - c_e H(pi), with v and A from V-trace."""

    capturable = True

    def __init__(self, config: A2CConfig, discount: float, processes: Processes) -> None:
        """Takes the coefficients over from the config.

        Args:
            config: the options.
            discount: gamma per agent step, from 0 to 1.
            processes: share every batch; means are taken over all of them.
        """
        super().__init__()
        self.value_coefficient = config.value_coefficient
        self.entropy_coefficient = config.entropy_coefficient
        self._config = config
        self.normalizes_advantage = config.normalize_advantage
        self._discount = discount
        self._processes = processes

    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: Scalar = 0.0,
    ) -> MainLoss:
        """Computes policy, value and entropy terms of every step."""
        logits, value = output.logits[:-1], output.value[:-1]
        chosen = log_probability(logits, trajectory.action)
        log_ratio = chosen.detach() - trajectory.log_probability
        returns = vtrace(
            log_ratio,
            trajectory.reward,
            output.value.detach(),
            trajectory.terminated,
            trajectory.truncated,
            discount=self._discount,
            trace=self._config.trace,
            rho_clip=self._config.rho_clip,
            c_clip=self._config.c_clip,
        )
        advantage = returns.advantage
        if self._config.normalize_advantage:
            advantage = normalized(advantage, trajectory.valid, self._processes)
        return MainLoss(
            policy=-advantage * chosen,
            value=0.5 * (returns.target - value).square(),
            entropy=entropy(logits),
            value_target=returns.target,
            # How far the policy has moved since it acted: 0 but for a pipeline's lag.
            metrics={"approximate_kl": approximate_kl(log_ratio)},
        )
