"""The learner: one trajectory in, one or several gated updates of agent and heads.

The main loss is the algorithm's policy, value and entropy terms; every head adds
an auxiliary loss.  Each is masked, averaged and weighed once (`StepLoss`).  The gradients
over the parts that main and auxiliary losses share pass the gate; every other
parameter gets its own, ungated gradient (Du et al. 2018, Proposition 2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agents.algorithms import Algorithm, PhaseBatch
from agents.gates import Gate
from agents.heads import AuxiliaryHead, Schedule
from agents.heads.base import NamedModules
from agents.learning.batches import Batch, Scheduled, Schedules, dealt, unsound
from agents.learning.gating import Gating, GatingConfig
from agents.learning.optimizer import OwnerOptimizer
from agents.learning.phase import PHASE, PhaseGating
from agents.learning.tasks import Task, losses_of
from agents.networks.actor_critic import ActorCritic, check_finite
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Capture, Graphs, Scalar
from agents.runtime.random import Stream, diverge, generator, seeded
from agents.statistics import averaged
from agents.trajectory import Targets, Trajectory

T = TypeVar("T")

ALGORITHM = "algorithm"
"""Owner of the parameters that the algorithm brings along."""


@dataclass(frozen=True)
class LearnerConfig:
    """How an update is made, whatever the algorithm."""

    learning_rate: float
    learning_rate_end: float
    total_steps: int
    max_gradient_norm: float
    adam_epsilon: float = 1e-5
    adam_beta_1: float = 0.9
    gating: GatingConfig = GatingConfig()
    normalize_value: bool = False
    """Learn values in units of their own spread."""
    seed: int = 0


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
        tasks: Sequence[Task] = (),
    ) -> None:
        """Makes the optimizers, one for each owner of parameters.

        Args:
            agent: that learns.
            algorithm: of the main loss.
            heads: auxiliary losses, by name.
            gate: weighs their gradients.
            config: how an update is made.
            processes: that make every update together.
            tasks: where there are several; the first has this agent, algorithm and heads, and the
                agents of the others have the same torso and core.
        """
        self.tasks = tuple(tasks) or (Task(agent, algorithm, heads),)
        others = self.tasks[1:]
        self.agent = agent
        self.heads = NamedModules(
            {n: head for task in self.tasks for n, head in task.heads.items()}
        )
        self.names = (*(task.name for task in others), *self.heads)
        """Of all losses but the main one."""
        self.steps = 0
        self.updates = 0
        self.attempts = 0
        """Updates and those of the auxiliary phase, whether they were skipped or not."""
        self._algorithm = algorithm
        self._config = config
        self._processes = processes
        for task in self.tasks:
            # Its scale would stay 0, and so would the value, which a head may train.
            scalable = task.algorithm.has_value_target
            task.agent.value_scale.on = config.normalize_value and scalable
            with seeded(config.seed, f"algorithm {task.name}".strip()):
                task.algorithm.attach(task.agent)
        adam = config.learning_rate, config.adam_epsilon, config.adam_beta_1
        agents_own = OwnerOptimizer(agent.parameters(), *adam)
        self._phase = None
        if algorithm.phase_trains:
            self._phase = PhaseGating(
                agent, algorithm, gate, config.gating, agents_own, processes, config.seed
            )
        self.gating = Gating(
            agent,
            heads,
            gate,
            config.gating,
            agents_own,
            processes,
            config.seed,
            others=list(algorithm.parameters()),
            rivals=others,
        )
        owners = {task.name: task.own_parameters(agent) for task in others} | {
            name: [*head.parameters(), *self.gating.extension.parameters(name)]
            for name, head in self.heads.items()
        }
        owners[ALGORITHM] = list(algorithm.parameters())
        self._optimizers = {"agent": agents_own} | {
            name: OwnerOptimizer(parameters, *adam)
            for name, parameters in owners.items()
            if parameters
        }
        device = next(agent.parameters()).device
        # On the host, so that it goes on wherever a run is resumed.
        self._shuffling = generator(
            config.seed, f"minibatches {processes.rank}", torch.device("cpu")
        )
        self.skipped = torch.zeros((), device=device)
        self.skipped_in_a_row = torch.zeros((), device=device)
        self.unsound = torch.zeros((), device=device)
        """Trajectories whose observations or rewards were not finite."""
        rates = Schedule(config.learning_rate, config.learning_rate_end, config.total_steps)
        self._schedules = Schedules(rates, self._heads)
        self._graphs: Graphs | None = None

    def capture(self, capture: Capture) -> None:
        """From now on computes updates by CUDA graphs, or by what stands in for them.

        Args:
            capture: makes the graphs.
        """
        self._graphs = Graphs(capture)
        self._schedules.capture(self.skipped.device)
        for optimizer in self._optimizers.values():
            optimizer.capture()

    @property
    def captured(self) -> bool:
        """Whether updates are computed by graphs."""
        return self._graphs is not None

    @property
    def algorithm(self) -> Algorithm:
        """The main loss."""
        return self._algorithm

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return self._schedules.learning_rate(self.steps)

    def update(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Learns from one trajectory; returns scalars for the log, on the device.

        One optimizer step for every minibatch of every epoch that the algorithm asks for, then
        those of its auxiliary phase when one is due.
        """
        algorithm = self._algorithm
        with torch.no_grad():
            whole = []
            for task in self.tasks:
                part = task.part(trajectory)
                prepare = partial(self._prepared, task)
                whole.append(task.batch(part, self._run(("prepare", task.name), prepare, part)))
        placed = whole if self._graphs is None else self._graphs.fixed(whole)
        metrics: list[dict[str, Tensor]] = []
        for _ in range(algorithm.epochs):
            # Every minibatch has environments of every task.
            slices = [
                dealt(batch.trajectory, algorithm.minibatches, self._shuffling) for batch in whole
            ]
            epoch = [
                self._update_once(placed, parts, fresh=not (metrics or index), first=not metrics)
                for index, parts in enumerate(zip(*slices, strict=True))
            ]
            metrics += epoch
            if algorithm.max_kl is not None and self._moved(epoch) > algorithm.max_kl:
                break
        phase = [
            self._update_in_phase(each)
            for each in algorithm.phase_batches(trajectory, whole[0].main, self._shuffling)
        ]
        self.steps += trajectory.action.numel() * self._processes.size
        return averaged(metrics, latest=("skipped",)) | averaged(phase, latest=("skipped",))

    def _run(self, form: object, compute: Callable[..., T], *inputs: Any, eager: bool = False) -> T:
        """Computes a function, by its graph where updates are captured; see `Graphs.run`."""
        if self._graphs is None:
            return compute(*inputs)
        return self._graphs.run(form, compute, *inputs, eager=eager)

    def _prepared(self, task: Task, trajectory: Trajectory) -> Targets:
        self.unsound += self._processes.sum(unsound(trajectory)).clamp(max=1.0)
        return task.algorithm.prepare(trajectory)

    def _moved(self, epoch: Sequence[Mapping[str, Tensor]]) -> float:
        """The mean KL divergence between the policy that acted and that of an epoch.

        Of several tasks, that of the policy that moved furthest.
        """
        keys = [f"{task.name}/approximate_kl".removeprefix("/") for task in self.tasks]
        moved = torch.stack([torch.stack([metrics[key] for key in keys]) for metrics in epoch])
        # Waits for the device: whether to go on is decided on the host.
        return float(moved.mean(0).max())

    def _update_once(
        self,
        whole: Sequence[Batch],
        environments: Sequence[Int[Tensor, " _"] | None],
        *,
        fresh: bool,
        first: bool,
    ) -> dict[str, Tensor]:
        """Makes one update.

        Args:
            whole: the batch of each task's part of the trajectory.
            environments: of each task, that the update learns from; None for all.
            fresh: whether it is the first update from the trajectory.
            first: whether it is one of the first epoch.
        """
        gating, update = self.gating, self.updates
        spoilt = None if self._graphs is None else gating.is_spoilt
        observes = first and self.agent.value_scale.on
        compute = partial(
            self._computed,
            scheduled=self._schedules.at(self.steps),
            spoilt=spoilt,
            fresh=fresh,
            observes=observes,
        )
        form = (gating.is_due(update), gating.measures(update), observes)
        finite, metrics = self._run(form, compute, whole, environments, eager=spoilt is True)
        if spoilt is not None:
            gating.put(finite)
        self.updates += 1
        self.attempts += 1
        return metrics

    def _computed(
        self,
        whole: Sequence[Batch],
        environments: Sequence[Int[Tensor, " _"] | None],
        *,
        scheduled: Scheduled,
        spoilt: bool | None,
        fresh: bool,
        observes: bool,
    ) -> tuple[Bool[Tensor, " L"], dict[str, Tensor]]:
        """The part of an update that the device computes; what a graph captures.

        Args:
            whole: the batch of each task's part of the trajectory.
            environments: of each task, that the update learns from; None for all.
            scheduled: numbers of this update.
            spoilt: see `Gating.backward`.
            fresh: whether it is the first update from the trajectory.
            observes: whether the scale of values takes notice of the targets.

        Returns:
            Which losses and gradients are finite, and scalars for the log.
        """
        batches = [batch.select(part) for batch, part in zip(whole, environments, strict=True)]
        view = self.gating.view(batches[0].trajectory, self.updates, self.learning_rate)
        losses = losses_of(self.tasks, batches, view, scheduled, self._processes, observes=observes)
        metrics = losses.metrics
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        finite, gated = self.gating.backward(
            view, losses.main, losses.auxiliary, self.updates, spoilt=spoilt, fresh=fresh
        )
        metrics |= gated
        self._step(finite, metrics, self.names, scheduled.learning_rate)
        metrics |= self.tasks[0].after_update(self.gating.extension.value_layers())
        for task in self.tasks[1:]:
            metrics |= task.after_update()
        return finite, {name: value.detach() for name, value in metrics.items()}

    def _update_in_phase(self, batch: PhaseBatch) -> dict[str, Tensor]:
        """Makes one update of the algorithm's auxiliary phase."""
        assert self._phase is not None
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        scheduled = self._schedules.at(self.steps)
        finite, metrics = self._phase.backward(batch, scheduled.progress, self.learning_rate)
        self._step(finite, metrics, (PHASE,), scheduled.learning_rate)
        self.attempts += 1
        return {
            name: value.detach()
            for name, value in metrics.items()
            if name.startswith(f"{PHASE}/") or name == "skipped"
        }

    @property
    def _heads(self) -> list[AuxiliaryHead]:
        return list(self.heads.children())  # type: ignore[arg-type]

    def _step(
        self,
        finite: Bool[Tensor, " L"],
        metrics: dict[str, Tensor],
        names: Sequence[str],
        learning_rate: Scalar,
    ) -> None:
        """Clips and steps every owner, or skips it; all decided on the device.

        Args:
            finite: which losses are finite, with their gradients.
            metrics: to add to.
            names: of the auxiliary losses, in their order.
            learning_rate: of this step.
        """
        config = self._config
        healthy = {"agent": finite[0], ALGORITHM: finite[0]}
        healthy |= {name: finite[0] & finite[i + 1] for i, name in enumerate(names)}
        for owner, optimizer in self._optimizers.items():
            if owner not in healthy:
                continue
            norm, taken = optimizer.step(learning_rate, config.max_gradient_norm, healthy[owner])
            separator = "_" if owner == ALGORITHM else "/"  # it is no head
            key = "gradient_norm" if owner == "agent" else f"{owner}{separator}gradient_norm"
            metrics[key] = norm
            if owner == "agent":
                skipped = 1.0 - taken.float()
                self.skipped += skipped
                self.skipped_in_a_row.add_(skipped).mul_(skipped)
                metrics["skipped"] = self.skipped.clone()
        for index, name in enumerate(names):
            metrics[f"{name}/dropped"] = 1.0 - finite[index + 1].float()

    def check_finite(self) -> None:
        """Raises `NotFiniteError` if a weight of any task's agent is NaN or infinite."""
        for task in self.tasks:
            check_finite(task.agent.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, except the trajectory."""
        extra: dict[str, Any] = {}
        if algorithm := self._algorithm.state_dict():
            extra[ALGORITHM] = algorithm
        if self._phase is not None:
            extra[PHASE] = self._phase.state_dict()
        if others := self.tasks[1:]:
            extra["tasks"] = {task.name: task.state_dict() for task in others}
        return extra | {
            "agent": self.agent.state_dict(),
            "heads": self.heads.state_dict(),
            **self.gating.state_dict(),
            "optimizers": {name: opt.state_dict() for name, opt in self._optimizers.items()},
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "unsound": self.unsound,
            "shuffling": self._shuffling.get_state(),
            "steps": self.steps,
            "updates": self.updates,
            "attempts": self.attempts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        if self._graphs is not None:
            self._graphs.forget()
        self.agent.load_state_dict(state["agent"])
        self.heads.load_state_dict(state["heads"])
        if ALGORITHM in state:
            self._algorithm.load_state_dict(state[ALGORITHM])
        for task in self.tasks[1:]:
            task.load_state_dict(state["tasks"][task.name])
        self.gating.load_state_dict(state)
        if self._phase is not None:
            self._phase.load_state_dict(state[PHASE])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.skipped.copy_(state["skipped"])
        self.skipped_in_a_row.copy_(state["skipped_in_a_row"])
        self.unsound.copy_(state.get("unsound", self.unsound))  # not in older checkpoints
        self._shuffling.set_state(state["shuffling"])
        self.steps = state["steps"]
        self.updates = state["updates"]
        self.attempts = state.get("attempts", self.updates)
        streams = [m.generator for m in self.heads.modules() if isinstance(m, Stream)]
        for stream in (self._shuffling, *streams):
            diverge(stream, self._processes.rank)
