"""The learner: one trajectory in, one or several gated updates of agent and heads.

The main loss is the algorithm's policy, value and entropy terms; every head adds
an auxiliary loss.  Each is masked, averaged and weighed here, once.  The gradients
over the parts that main and auxiliary losses share pass the gate; every other
parameter gets its own, ungated gradient (Du et al. 2018, Proposition 2).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
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
from agents.masked import explained_variance
from agents.metrics import averaged
from agents.optimizer import OwnerOptimizer
from agents.processes import ALONE, Processes
from agents.seeding import generator
from agents.sharing import divide
from agents.types import AgentOutput, Targets, Trajectory


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
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """What one update learns from: a trajectory, or some of its environments."""

    trajectory: Trajectory
    main: Targets
    heads: Sequence[Targets]

    def select(self, environments: Tensor) -> "Batch":
        """A minibatch."""
        return Batch(
            self.trajectory.select(environments),
            self.main.select(environments),
            [targets.select(environments) for targets in self.heads],
        )


class Learner:
    """Agent, heads, gate and their optimizers."""

    def __init__(
        self,
        agent: ActorCritic,
        algorithm: Algorithm,
        heads: Mapping[str, AuxiliaryHead],
        gate: Gate,
        config: LearnerConfig,
        processes: Processes = ALONE,
    ) -> None:
        self.agent = agent
        self.heads = nn.ModuleDict(heads)
        self.gate = gate
        self.steps = 0
        self.updates = 0
        self._algorithm = algorithm
        self._config = config
        self._processes = processes
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
        # On the host, so that it goes on wherever a run is resumed.
        self._shuffling = generator(
            config.seed, f"minibatches {processes.rank}", torch.device("cpu")
        )
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
        """Learns from one trajectory; returns scalars for the log, on the device.

        One optimizer step for every minibatch of every epoch that the algorithm asks for.
        """
        algorithm = self._algorithm
        with torch.no_grad():
            whole = Batch(
                trajectory,
                algorithm.prepare(trajectory),
                [head.prepare(self.agent, trajectory) for head in self._heads],
            )
        metrics: list[dict[str, Tensor]] = []
        for _ in range(algorithm.epochs):
            epoch = [self._update_once(batch) for batch in self._minibatches(whole)]
            metrics += epoch
            if algorithm.max_kl is not None and self._moved(epoch) > algorithm.max_kl:
                break
        self.steps += trajectory.action.numel() * self._processes.size
        return averaged(metrics, latest=("skipped",))

    def _minibatches(self, whole: Batch) -> Iterator[Batch]:
        """Shuffles the environments and deals them out; whole columns, never slices of time."""
        if self._algorithm.minibatches == 1:
            yield whole
            return
        num_envs = whole.trajectory.action.shape[1]
        order = torch.randperm(num_envs, generator=self._shuffling)
        order = order.to(whole.trajectory.action.device, non_blocking=True)
        for environments in order.chunk(self._algorithm.minibatches):
            yield whole.select(environments)

    @staticmethod
    def _moved(epoch: Sequence[Mapping[str, Tensor]]) -> float:
        """The mean KL divergence between the policy that acted and that of an epoch."""
        # Waits for the device: whether to go on is decided on the host.
        return float(torch.stack([metrics["approximate_kl"] for metrics in epoch]).mean())

    def _update_once(self, batch: Batch) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        trajectory = batch.trajectory
        output = self.agent.unroll(trajectory)
        progress = min(1.0, self.steps / self._config.total_steps)
        main = self._algorithm.loss(output, trajectory, batch.main, progress)
        losses = [self._main_loss(main, output, trajectory, metrics)]
        for (name, head), targets in zip(self.heads.items(), batch.heads, strict=True):
            assert isinstance(head, AuxiliaryHead)
            result = head(self.agent, output, trajectory, targets)
            loss = self._processes.share(result.loss, result.valid)
            coefficient = head.coefficient(self.steps)
            losses.append(coefficient * loss)
            metrics[f"{name}/loss"] = self._processes.sum(loss)
            metrics[f"{name}/coefficient"] = loss.new_full((), coefficient)
            metrics.update({f"{name}/{key}": value for key, value in result.metrics.items()})

        finite = self._backward(losses, metrics)
        self._step(finite, metrics)
        for head in self._heads:
            head.after_update(self.agent)
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
        """This process's share of the weighted main loss."""
        processes, valid = self._processes, trajectory.valid
        policy, value, entropy = (
            processes.share(part, valid) for part in (main.policy, main.value, main.entropy)
        )
        metrics["policy_loss"] = processes.sum(policy)
        metrics["value_loss"] = processes.sum(value)
        metrics["entropy"] = processes.sum(entropy)
        metrics["explained_variance"] = explained_variance(
            output.value[:-1].detach(), main.value_target, valid, processes
        )
        metrics |= {name: processes.mean(value, valid) for name, value in main.metrics.items()}
        algorithm = self._algorithm
        return (
            policy + algorithm.value_coefficient * value - algorithm.entropy_coefficient * entropy
        )

    def _backward(self, losses: list[Tensor], metrics: dict[str, Tensor]) -> Bool[Tensor, " L"]:
        """Fills `.grad` of agent and heads; tells which losses and rows are finite."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        shared = list(self._shared.values())
        finite = self._processes.sum(torch.stack(losses)).isfinite()
        if not self.heads:
            losses[0].backward()
            self._add_up(self.agent.parameters())
            return finite
        if self._weights is not None and self.updates % self._config.gate_every != 0:
            reused_backward(losses, self._weights[0, : len(losses)], shared, self._private)
            self._add_up([*shared, *self._private])
            return finite

        rows_finite = finite

        def reduce(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal rows_finite
            rows = self._processes.sum(rows)
            rows_finite = rows.sum(-1).isfinite()  # as the gate decides it
            return rows, self._processes.sum(values)

        judgement = gated_backward(
            losses, self.gate, shared, self._private, groups=self._groups, reduce=reduce
        )
        self._add_up(self._private)
        self._weights = judgement.weights
        diagnosis = diagnose(self.gate, judgement)
        for index, name in enumerate(self.heads):
            for field in fields(diagnosis):
                metrics[f"{name}/{field.name}"] = getattr(diagnosis, field.name)[index]
        # One row of a summed loss stands for all.
        return finite & rows_finite

    def _add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Turns gradients of this process's share into those of the whole loss."""
        parameters = list(parameters)
        if self._processes.size > 1:
            # A head may have nothing to learn here and something elsewhere.
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self._processes.sum_([p.grad for p in parameters if p.grad is not None])

    def _step(self, finite: Bool[Tensor, " L"], metrics: dict[str, Tensor]) -> None:
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
            "shuffling": self._shuffling.get_state(),
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
        self._shuffling.set_state(state["shuffling"])
        self.steps = state["steps"]
        self.updates = state["updates"]
