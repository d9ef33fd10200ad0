"""The learner: one trajectory in, one gated update of agent and heads.

The main loss is the algorithm's policy, value and entropy terms; every head adds
an auxiliary loss.  Each is masked, averaged and weighed here, once.  The gradients
over the parts that main and auxiliary losses share pass the gate; every other
parameter gets its own, ungated gradient (Du et al. 2018, Proposition 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.agent import ActorCritic
from agents.gates import (
    Gate,
    Scope,
    column_groups,
    diagnose,
    gated_backward,
    reused_backward,
)
from agents.heads import AuxiliaryHead, Schedule
from agents.losses import Algorithm, MainLoss
from agents.optimizer import OwnerOptimizer
from agents.types import AgentOutput, Trajectory


@dataclass(frozen=True)
class LearnerConfig:
    """How an update is made, whatever the algorithm."""

    learning_rate: float
    learning_rate_end: float
    total_steps: int
    max_gradient_norm: float
    adam_epsilon: float = 1e-5
    gate_scope: Scope = "shared"
    gate_every: int = 1


class Learner:
    """Agent, heads, gate and their optimizers; `update` makes one optimizer step each."""

    def __init__(
        self,
        agent: ActorCritic,
        algorithm: Algorithm,
        heads: Mapping[str, AuxiliaryHead],
        gate: Gate,
        config: LearnerConfig,
    ) -> None:
        self.agent = agent
        self.heads = nn.ModuleDict(heads)
        self.gate = gate
        self.steps = 0
        self.updates = 0
        self._algorithm = algorithm
        self._config = config
        self._optimizers = {"agent": self._optimizer(agent)} | {
            name: self._optimizer(head) for name, head in heads.items() if list(head.parameters())
        }
        self._shared, self._private = divide(agent, heads)
        self._groups = (
            column_groups(config.gate_scope, self._shared.items()) if self._shared else None
        )
        # Of the last judgement, for the updates between judgements.
        self._weights: Float[Tensor, "G M"] | None = None
        device = next(agent.parameters()).device
        self.skipped = torch.zeros((), device=device)
        self.skipped_in_a_row = torch.zeros((), device=device)

    def _optimizer(self, owner: nn.Module) -> OwnerOptimizer:
        config = self._config
        return OwnerOptimizer(owner.parameters(), config.learning_rate, config.adam_epsilon)

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        config = self._config
        schedule = Schedule(config.learning_rate, config.learning_rate_end, config.total_steps)
        return schedule(self.steps)

    def update(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Makes one update from one trajectory and returns scalars for the log, on the device."""
        metrics: dict[str, Tensor] = {}
        with torch.no_grad():
            targets = [head.prepare(self.agent, trajectory) for head in self._heads]
        output = self.agent(trajectory.observation)

        main = self._algorithm.loss(output, trajectory)
        losses = [self._main_loss(main, output, trajectory, metrics)]
        for (name, head), target in zip(self.heads.items(), targets, strict=True):
            assert isinstance(head, AuxiliaryHead)
            result = head(self.agent, output, trajectory, target)
            loss = masked_mean(result.loss, result.valid)
            coefficient = head.coefficient(self.steps)
            losses.append(coefficient * loss)
            metrics[f"{name}/loss"] = loss
            metrics[f"{name}/coefficient"] = loss.new_full((), coefficient)
            metrics.update({f"{name}/{key}": value for key, value in result.metrics.items()})

        finite = self._backward(losses, metrics)
        self._step(losses, finite, metrics)
        for head in self._heads:
            head.after_update(self.agent)
        self.steps += trajectory.action.numel()
        self.updates += 1
        return {name: value.detach() for name, value in metrics.items()}

    @property
    def _heads(self) -> list[AuxiliaryHead]:
        return list(self.heads.children())  # type: ignore[arg-type]

    def _main_loss(
        self,
        main: MainLoss,
        output: AgentOutput,
        trajectory: Trajectory,
        metrics: dict[str, Tensor],
    ) -> Float[Tensor, ""]:
        policy, value, entropy = (
            masked_mean(part, trajectory.valid) for part in (main.policy, main.value, main.entropy)
        )
        algorithm = self._algorithm
        metrics["policy_loss"] = policy
        metrics["value_loss"] = value
        metrics["entropy"] = entropy
        metrics["explained_variance"] = explained_variance(
            output.value[:-1].detach(), main.value_target, trajectory.valid
        )
        return (
            policy + algorithm.value_coefficient * value - algorithm.entropy_coefficient * entropy
        )

    def _backward(self, losses: list[Tensor], metrics: dict[str, Tensor]) -> Bool[Tensor, " L"]:
        """Fills `.grad` of agent and heads; tells which losses and rows are finite."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        shared = list(self._shared.values())
        finite = torch.stack([loss.detach() for loss in losses]).isfinite()
        if not self.heads:
            losses[0].backward()
            return finite
        if self._weights is not None and self.updates % self._config.gate_every != 0:
            reused_backward(losses, self._weights[0, : len(losses)], shared, self._private)
            return finite

        rows_finite = finite

        def look(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal rows_finite
            rows_finite = rows.sum(-1).isfinite()  # as the gate decides it
            return rows, values

        judgement = gated_backward(
            losses, self.gate, shared, self._private, groups=self._groups, reduce=look
        )
        self._weights = judgement.weights
        diagnosis = diagnose(self.gate, judgement)
        for index, name in enumerate(self.heads):
            for field in fields(diagnosis):
                metrics[f"{name}/{field.name}"] = getattr(diagnosis, field.name)[index]
        # One row of a summed loss stands for all.
        return finite & rows_finite

    def _step(
        self, losses: list[Tensor], finite: Bool[Tensor, " L"], metrics: dict[str, Tensor]
    ) -> None:
        """Clips and steps every owner, or skips it; all decided on the device."""
        config = self._config
        healthy = {"agent": finite[0]}
        healthy |= {name: finite[0] & finite[i + 1] for i, name in enumerate(self.heads)}
        for owner, optimizer in self._optimizers.items():
            norm, taken = optimizer.step(
                self.learning_rate, config.max_gradient_norm, healthy[owner]
            )
            key = "gradient_norm" if owner == "agent" else f"{owner}/gradient_norm"
            metrics[key] = norm
            if owner == "agent":
                skipped = 1.0 - taken.float()
                self.skipped += skipped
                self.skipped_in_a_row.add_(skipped).mul_(skipped)
                metrics["skipped"] = self.skipped.clone()
        for index, name in enumerate(self.heads):
            metrics[f"{name}/dropped"] = 1.0 - finite[index + 1].float()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, but for the trajectory."""
        return {
            "agent": self.agent.state_dict(),
            "heads": self.heads.state_dict(),
            "gate": self.gate.state_dict(),
            "gate_weights": self._weights,
            "optimizers": {name: opt.state_dict() for name, opt in self._optimizers.items()},
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "steps": self.steps,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.agent.load_state_dict(state["agent"])
        self.heads.load_state_dict(state["heads"])
        self.gate.load_state_dict(state["gate"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        weights = state["gate_weights"]
        self._weights = None if weights is None else weights.to(self.skipped.device)
        self.skipped.copy_(state["skipped"])
        self.skipped_in_a_row.copy_(state["skipped_in_a_row"])
        self.steps = state["steps"]
        self.updates = state["updates"]


def divide(
    agent: ActorCritic, heads: Mapping[str, AuxiliaryHead]
) -> tuple[dict[str, nn.Parameter], list[nn.Parameter]]:
    """Splits the parameters into shared ones, by name, and private ones.

    Shared are the parts of the agent that the main loss (which trains all of them)
    and at least one head train; the rest of the agent and the heads are private.
    """
    reached = {part for head in heads.values() for part in head.trains}
    shared = {
        f"{part}.{name}": parameter
        for part, module in agent.parts.items()
        if part in reached
        for name, parameter in module.named_parameters()
    }
    private = [
        parameter
        for part, module in agent.parts.items()
        if part not in reached
        for parameter in module.parameters()
    ]
    private += [parameter for head in heads.values() for parameter in head.parameters()]
    return shared, private


def masked_mean(value: Shaped[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]) -> Tensor:
    """Mean over the valid entries; 0 where there are none.

    What stands at invalid entries is replaced, not multiplied by zero: it may be NaN.
    """
    kept = torch.where(valid, value, torch.zeros_like(value))
    return kept.sum() / valid.sum().clamp(min=1)


def explained_variance(
    value: Float[Tensor, "T B"], target: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"]
) -> Float[Tensor, ""]:
    """1 - Var(target - value) / Var(target) over valid steps; NaN where the target is constant."""

    def variance(x: Tensor) -> Tensor:
        return masked_mean((x - masked_mean(x, valid)).square(), valid)

    spread = variance(target)
    return torch.where(spread > 0, 1 - variance(target - value) / spread, torch.nan)
