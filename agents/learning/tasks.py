"""A task: an agent, its main loss and its heads, and what they make of a trajectory.

Most learners have one.  Several share a torso and a core: each task has a policy and a value of
its own on top of them, with its own scale of values, and learns from its own environments, which
are neighbours in the trajectory.  The loss of the first task is the main one; those of the others
pass the gate as auxiliary losses, like those of heads, as in the experiment of Du et al. 2018
(https://arxiv.org/abs/1812.02224) with Breakout and Ms. Pac-Man in one network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from agents.algorithms import Algorithm, MainLoss
from agents.heads import AuxiliaryHead, HeadLoss
from agents.learning.batches import Batch, Scheduled
from agents.learning.step_loss import (
    MainTerms,
    StepLoss,
    Steps,
    averaged_of,
    in_unit,
    main_terms,
    step_losses,
)
from agents.learning.views import PlainView, View
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
from agents.statistics import explained, moments, pooled
from agents.trajectory import AgentOutput, Targets, Trajectory


@dataclass(frozen=True)
class Task:
    """What is learnt in one kind of environments."""

    agent: ActorCritic
    """Its torso and core may be those of other tasks, too."""
    algorithm: Algorithm
    heads: Mapping[str, AuxiliaryHead]
    """By name; no two tasks have heads of the same name."""
    name: str = ""
    """Precedes its numbers in the log; empty for the first task."""
    environments: tuple[int, int] | None = None
    """The first of its environments in a trajectory, and their number; None for all."""

    def part(self, trajectory: Trajectory) -> Trajectory:
        """Its own environments of a trajectory."""
        return (
            trajectory if self.environments is None else trajectory.neighbours(*self.environments)
        )

    def batch(self, trajectory: Trajectory, main: Targets) -> Batch:
        """Adds the heads' targets to those of the main loss.

        Args:
            trajectory: the task's own part.
            main: targets of the main loss.
        """
        heads = [head.prepare(self.agent, trajectory) for head in self.heads.values()]
        return Batch(trajectory, main, heads)

    def computed(
        self,
        batch: Batch,
        outputs: Sequence[AgentOutput],
        progress: Scalar,
        processes: Processes = ALONE,
        *,
        observes: bool = False,
    ) -> "Computed":
        """Computes the main loss and those of the heads at every step.

        Args:
            batch: of the task.
            outputs: of its agent, as the main loss and each head see it.
            progress: how much of the run is over, from 0 to 1.
            processes: that make the update together.
            observes: whether the scale of values takes notice of the targets.
        """
        output, *seen = outputs
        trajectory, scale = batch.trajectory, self.agent.value_scale
        main = self.algorithm.loss(output, trajectory, batch.main, progress)
        valid, target = trajectory.valid, main.value_target
        if observes and scale.on:
            powers = [(target, valid), (target.square(), valid)]
            scale.observe(*(loss.mean for loss in step_losses(powers, processes)[0]))
        if scale.on:
            main = in_unit(main, self.algorithm, scale.unit)
        estimate = output.value[:-1].detach() if main.estimate is None else main.estimate
        explains = (*moments(target, valid), *moments(target - estimate, valid))
        heads = [
            head(self.agent, shown, trajectory, targets)
            for head, shown, targets in zip(self.heads.values(), seen, batch.heads, strict=True)
        ]
        return Computed(main, valid, heads, explains)

    def losses(
        self,
        computed: "Computed",
        averaged: Sequence[StepLoss],
        explains: Sequence[Tensor],
        coefficients: Sequence[Scalar],
    ) -> "Losses":
        """Weighs what was computed.

        Args:
            computed: by this task.
            averaged: of `computed.averaged`, in its order.
            explains: the moments of all processes, stacked, in place of those of this one.
            coefficients: of the heads, in their order.
        """
        count = len(averaged) - len(self.heads)
        terms, metrics = main_terms(computed.main, averaged[:count], self.algorithm)
        metrics["explained_variance"] = explained(pooled(explains[:3]), pooled(explains[3:]))
        if self.name:
            metrics = {f"{self.name}/{name}": number for name, number in metrics.items()}
        auxiliary: list[StepLoss] = []
        for name, head, loss, coefficient in zip(
            self.heads, computed.heads, averaged[count:], coefficients, strict=True
        ):
            auxiliary.append(loss.times(coefficient))
            metrics[f"{name}/loss"] = loss.mean
            metrics[f"{name}/coefficient"] = torch.ones_like(loss.mean) * coefficient
            metrics.update({f"{name}/{key}": value for key, value in head.metrics.items()})
        return Losses(terms, auxiliary, metrics)

    def after_update(self, value_layers: Sequence[nn.Linear] = ()) -> dict[str, Tensor]:
        """Follows an optimizer step; returns numbers for the log.

        Args:
            value_layers: that a gate has in place of the agent's.
        """
        scale, metrics = self.agent.value_scale, {}
        if scale.on:
            scale.adopt([*self.algorithm.value_layers(self.agent), *value_layers])
            prefix = f"{self.name}/" if self.name else ""
            metrics = {
                f"{prefix}value_mean": scale.mean.clone(),
                f"{prefix}value_scale": scale.scale.clone(),
            }
        for head in self.heads.values():
            head.after_update(self.agent)
        return metrics

    def own_parameters(self, other: ActorCritic) -> list[nn.Parameter]:
        """The parameters of agent and algorithm that another task's agent has not."""
        theirs = {id(parameter) for parameter in other.parameters()}
        own = [*self.agent.parameters(), *self.algorithm.parameters()]
        return [parameter for parameter in own if id(parameter) not in theirs]

    def private(self, other: ActorCritic) -> list[nn.Parameter]:
        """All parameters that another task's agent has not, those of heads included."""
        heads = [p for head in self.heads.values() for p in head.parameters()]
        return [*self.own_parameters(other), *heads]

    def common(self, other: ActorCritic) -> Iterator[str]:
        """Names of the parts that its agent and another task's are both made of."""
        for name, module in self.agent.parts.items():
            if other.parts.get(name) is module:
                yield name

    def state_dict(self) -> dict[str, Any]:
        """What is not in the first task's state: policy, value and its scale, algorithm."""
        modules = self.agent.policy, self.agent.value, self.agent.value_scale, self.algorithm
        return {str(index): module.state_dict() for index, module in enumerate(modules)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        modules = self.agent.policy, self.agent.value, self.agent.value_scale, self.algorithm
        for index, module in enumerate(modules):
            module.load_state_dict(state[str(index)])


@dataclass(frozen=True)
class Computed:
    """The losses of a task at every step, and what is said of its values."""

    main: MainLoss
    valid: Bool[Tensor, "T B"]
    heads: Sequence[HeadLoss]
    explains: tuple[Tensor, ...]
    """Three moments of the value's targets, and three of what the values miss them by."""

    @property
    def averaged(self) -> list[Steps]:
        """What is averaged of them: the main loss's terms and numbers, then the heads' losses."""
        of_heads = [(result.loss, result.valid) for result in self.heads]
        return [*averaged_of(self.main, self.valid), *of_heads]


@dataclass(frozen=True)
class Losses:
    """The losses of one update, of a task or of several."""

    main: MainTerms
    """Of the first task."""
    auxiliary: Sequence[StepLoss]
    """Main losses of the other tasks, then the heads' times their coefficients, task by task."""
    metrics: dict[str, Tensor]


def losses_of(
    tasks: Sequence[Task],
    batches: Sequence[Batch],
    view: View,
    scheduled: Scheduled,
    processes: Processes = ALONE,
    *,
    observes: bool = False,
) -> Losses:
    """Computes the losses of all tasks.

    Args:
        tasks: in their order.
        batches: what each learns from.
        view: of the first task's agent; those of the others are plain.
        scheduled: the numbers of this update.
        processes: over whose steps the means are.
        observes: whether the scales of values take notice of the targets.
    """
    computed: list[Computed] = []
    for task, batch in zip(tasks, batches, strict=True):
        count = 1 + len(task.heads)
        if computed:
            view = PlainView(task.agent.unroll(batch.trajectory), count)
        computed.append(
            task.computed(
                batch, view.outputs[:count], scheduled.progress, processes, observes=observes
            )
        )
    # One message for all means, whatever the number of tasks and losses.
    losses, moments_of_all = step_losses(
        [part for each in computed for part in each.averaged],
        processes,
        [part for each in computed for part in each.explains],
    )
    averaged, explains = iter(losses), iter(moments_of_all)
    coefficients = iter(scheduled.coefficients)
    found = [
        task.losses(
            each,
            list(islice(averaged, len(each.averaged))),
            list(islice(explains, len(each.explains))),
            list(islice(coefficients, len(task.heads))),
        )
        for task, each in zip(tasks, computed, strict=True)
    ]
    rivals = [each.main.whole for each in found[1:]]
    heads = [loss for each in found for loss in each.auxiliary]
    metrics = dict(pair for each in found for pair in each.metrics.items())
    return Losses(found[0].main, [*rivals, *heads], metrics)
