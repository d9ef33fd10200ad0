"""RotoGrad in an actor-critic: what the main loss and each head see, and how it goes backward."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from agents.heads import AuxiliaryHead
from agents.heads.base import NamedModules
from agents.learning.gating import Judging, Losses, Metrics
from agents.learning.rotations import Cut, Rotations, rotated_backward
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.trajectory import AgentOutput


@dataclass(frozen=True)
class RotationConfig:
    """Options of the rotations; those of `rotograd` say what they mean."""

    pace: float
    decay: float
    block: int


@dataclass(frozen=True)
class Views:
    """What the losses of one update see of the agent's output."""

    outputs: tuple[AgentOutput, ...]
    """The main loss's first."""
    cut: Cut


class Rotated:
    """Turns the agent's features for the main loss and for each head.

    The main loss's rotation is part of the agent, which acts with it; it is multiplied into the
    weights of an exported policy.  A head that trains the policy or the value gets a copy of its
    own, made from the agent's at the start, in whose place `logits` or `value` are computed: its
    rotation would mean nothing under weights that another rotation is learning with.

    Rotated are the features after the core, and the torso's where there is none.  What a head
    reads below them (`spatial`, or `torso` under a core) is judged with the features, but not
    rotated; what it makes of the agent by running it again is neither.
    """

    def __init__(
        self,
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        config: RotationConfig,
        processes: Processes = ALONE,
    ) -> None:
        device = agent.policy.weight.device
        self.rotations = Rotations(len(heads) + 1, agent.num_features, config.block, device)
        self._agent = agent
        self._config = config
        self._processes = processes
        self._updates = 0
        self._own = NamedModules({name: _copies(agent, head) for name, head in heads.items()})
        self._apart = {name for name, head in heads.items() if head.looks_itself}
        # What reaches these otherwise than through the cut passes as it is.
        self._private = [*agent.parameters(), *self._own.parameters()]
        self._private += [weight for head in heads.values() for weight in head.parameters()]
        agent.rotation = self.rotations.matrix[0].clone()

    def own(self, name: str) -> Iterator[nn.Parameter]:
        """The weights that a head has in place of the agent's."""
        return self._own[name].parameters()

    def views(self, output: AgentOutput) -> Views:
        """Turns an output for every loss, and cuts all of them off from the network below."""
        below = [output.features]
        below += [] if self._agent.core is None else [output.torso]
        below += [] if output.spatial is None else [output.spatial]
        cut = Cut(below, self._processes.rank, self._processes.size)
        features, *others = cut.pieces
        whole = replace(
            output,
            torso=features if self._agent.core is None else others[0],
            spatial=None if output.spatial is None else others[-1],
        )
        main = self._turned(whole, features, 0, self._agent.policy, self._agent.value)
        outputs = [main]
        for task, own in enumerate(self._own.values(), start=1):
            layers = dict(own.named_children())
            turned = self._turned(main, features, task, layers.get("policy"), layers.get("value"))
            outputs.append(turned)
        return Views(tuple(outputs), cut)

    def _turned(
        self,
        output: AgentOutput,
        features: Tensor,
        task: int,
        policy: nn.Module | None,
        value: nn.Module | None,
    ) -> AgentOutput:
        turned = self.rotations.rotate(features, task)
        return replace(
            output,
            features=turned,
            torso=turned if self._agent.core is None else output.torso,
            logits=output.logits if policy is None else policy(turned),
            value=output.value if value is None else value(turned).squeeze(-1),
        )

    def backward(
        self, losses: Losses, views: Views, judging: Judging, learning_rate: float
    ) -> tuple[Bool[Tensor, " L"], Metrics]:
        """Adds gradients to `.grad` of agent and heads; turns the rotations by a step.

        Args:
            losses: of a batch, of what the views showed; all graphs are freed.
            views: of the same batch.
            judging: has the gate, and reports.
            learning_rate: of the network.

        Returns:
            Which losses and gradients are finite, and what is to be logged.
        """
        shares = [losses.main.whole.share, *(loss.share for loss in losses.auxiliary)]
        finite = torch.ones(len(shares), dtype=torch.bool, device=shares[0].device)

        def reduce(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal finite
            # Each process has filled its own place of the rows.
            rows, values = self._processes.sum(rows), self._processes.sum(values)
            finite = rows.sum(-1).isfinite() & values.isfinite()
            return rows, values

        judgement = rotated_backward(
            shares,
            judging.gate,
            self.rotations,
            views.cut,
            self._private,
            rate=learning_rate * self._config.pace * self._config.decay**self._updates,
            reduce=reduce,
        )
        self._processes.add_up(self._private)
        self._updates += 1
        self._follow()
        apart = self.rotations.apart()
        metrics = judging.report(judgement)
        # Of a head that the cut does not hold nothing was judged.
        for key in metrics:
            if key.partition("/")[0] in self._apart:
                metrics[key] = torch.full_like(metrics[key], torch.nan)
        metrics |= {f"{name}/apart": apart[index] for index, name in enumerate(self._own)}
        return finite, metrics

    def _follow(self) -> None:
        """Lets the agent act with the main task's rotation."""
        assert self._agent.rotation is not None
        self._agent.rotation.copy_(self.rotations.matrix[0])

    def state_dict(self) -> dict[str, Any]:
        """Rotations, and the weights that heads have in place of the agent's."""
        return {
            "rotations": self.rotations.state_dict(),
            "own": self._own.state_dict(),
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.rotations.load_state_dict(state["rotations"])
        self._own.load_state_dict(state["own"])
        self._updates = state["updates"]
        self._follow()


def _copies(agent: ActorCritic, head: AuxiliaryHead) -> nn.ModuleDict:
    """Copies of the layers above the features that a head trains."""
    layers = {"policy": agent.policy, "value": agent.value}
    return nn.ModuleDict(
        {name: copy.deepcopy(layer) for name, layer in layers.items() if name in head.trains}
    )
