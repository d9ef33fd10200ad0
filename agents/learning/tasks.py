"""A task: an agent, its main loss and its heads, and what they make of a trajectory.

Most learners have one.  Several share a torso and a core: each task has a policy and a value of
its own on top of them, with its own scale of values, and learns from its own environments, which
are neighbours in the trajectory.  The loss of the first task is the main one; those of the others
pass the gate as auxiliary losses, like those of heads, as in the experiment of Du et al. 2018
(https://arxiv.org/abs/1812.02224) with Breakout and Ms. Pac-Man in one network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agents.algorithms import Algorithm
from agents.heads import AuxiliaryHead
from agents.learning.batches import Batch, Scheduled
from agents.learning.step_loss import MainTerms, StepLoss, main_terms
from agents.learning.views import PlainView, View
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
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

    def losses(
        self,
        batch: Batch,
        outputs: Sequence[AgentOutput],
        progress: Scalar,
        coefficients: Sequence[Scalar],
        processes: Processes = ALONE,
        *,
        observes: bool = False,
    ) -> "Losses":
        """Computes the main loss and those of the heads.

        Args:
            batch: of the task.
            outputs: of its agent, as the main loss and each head see it.
            progress: how much of the run is over, from 0 to 1.
            coefficients: of the heads, in their order.
            processes: over whose steps the means are.
            observes: whether the scale of values takes notice of the targets.
        """
        output, *seen = outputs
        trajectory, scale = batch.trajectory, self.agent.value_scale
        main = self.algorithm.loss(output, trajectory, batch.main, progress)
        if observes and scale.on:
            valid, target = trajectory.valid, main.value_target
            mean, square = (processes.mean(x, valid) for x in (target, target.square()))
            scale.observe(mean, square)
        terms, metrics = main_terms(
            main,
            output,
            trajectory,
            self.algorithm,
            processes,
            scale.unit if scale.on else None,
        )
        if self.name:
            metrics = {f"{self.name}/{name}": number for name, number in metrics.items()}
        auxiliary: list[StepLoss] = []
        for (name, head), shown, targets, coefficient in zip(
            self.heads.items(), seen, batch.heads, coefficients, strict=True
        ):
            result = head(self.agent, shown, trajectory, targets)
            loss = StepLoss.of(result.loss, result.valid, processes)
            auxiliary.append(loss.times(coefficient))
            metrics[f"{name}/loss"] = processes.sum(loss.share)
            metrics[f"{name}/coefficient"] = torch.ones_like(loss.share) * coefficient
            metrics.update({f"{name}/{key}": value for key, value in result.metrics.items()})
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
    found: list[Losses] = []
    start = 0
    for task, batch in zip(tasks, batches, strict=True):
        end = start + len(task.heads)
        if found:
            view = PlainView(task.agent.unroll(batch.trajectory), 1 + len(task.heads))
        coefficients = scheduled.coefficients[start:end]
        outputs = view.outputs[: 1 + len(task.heads)]
        found.append(
            task.losses(
                batch, outputs, scheduled.progress, coefficients, processes, observes=observes
            )
        )
        start = end
    rivals = [each.main.whole for each in found[1:]]
    heads = [loss for each in found for loss in each.auxiliary]
    metrics = dict(pair for each in found for pair in each.metrics.items())
    return Losses(found[0].main, [*rivals, *heads], metrics)
