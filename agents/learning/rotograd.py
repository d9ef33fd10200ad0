"""RotoGrad in an actor-critic: the main loss and each head read features rotated for them.

The rotations themselves are in `agents.learning.rotations`, the lengths of gradients in the gate
`rotograd`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from agents.gates import Gate, Judgement
from agents.gates.methods.rotograd import RotoGrad
from agents.heads import AuxiliaryHead
from agents.heads.base import NamedModules
from agents.learning.rotations import Cut, Rotations, rotated_backward
from agents.learning.step_loss import StepLoss
from agents.learning.views import GateExtension, Ownership, View
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.trajectory import AgentOutput


class RotatedFeatures(GateExtension):
    """Rotates the agent's features for the main loss and for each head.

    The main loss's rotation is part of the agent, which acts with it; it is multiplied into the
    weights of an exported policy. A head that trains the policy or the value gets a copy of that
    layer, made from the agent's at the start, which computes `logits` or `value` for it: the
    agent's own weights would mean nothing under another rotation.

    The features after the core are rotated, or those of the torso where there is no core. What a
    head reads below them (`spatial`, or `torso` under a core) is weighed together with the
    features but not rotated. What a head computes by running the agent again is neither.
    """

    shares_features = True

    def __init__(
        self,
        gate: RotoGrad,
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        processes: Processes = ALONE,
    ) -> None:
        """Starts with rotations by nothing.

        Args:
            gate: holds the options of the rotations.
            agent: whose features are rotated; gets a rotation to act with.
            heads: by name; each gets its rotation.
            processes: that make every update together.
        """
        device = agent.policy.weight.device
        self.rotations = Rotations(len(heads) + 1, agent.num_features, gate.block, device)
        self._gate = gate
        self._agent = agent
        self._processes = processes
        self._updates = 0
        self._copies = NamedModules({name: _copies(agent, head) for name, head in heads.items()})
        self._unreached = frozenset(name for name, head in heads.items() if head.bypasses_features)
        agent.rotation = self.rotations.matrix[0].clone()

    def parameters(self, head: str) -> Sequence[nn.Parameter]:
        """The layers that a head has in place of the agent's."""
        return list(self._copies[head].parameters())

    def ownership(self, owned: Ownership) -> Ownership:
        """Makes all parameters private: the losses share features instead."""
        private = [*owned.shared.values(), *owned.private, *self._copies.parameters()]
        return Ownership({}, private)

    def view(self, output: AgentOutput, learning_rate: float) -> "RotatedView":
        """Rotates the output for every loss and detaches all of them from the network below.

        Args:
            output: of the agent.
            learning_rate: of the network at this update; the rotations learn more slowly.
        """
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
        main = self._rotated(whole, features, 0, self._agent.policy, self._agent.value)
        outputs = [main]
        for task, own in enumerate(self._copies.values(), start=1):
            layers = dict(own.named_children())
            outputs.append(
                self._rotated(main, features, task, layers.get("policy"), layers.get("value"))
            )
        rate = learning_rate * self._gate.pace * self._gate.decay**self._updates
        return RotatedView(self, outputs, cut, rate)

    def _rotated(
        self,
        output: AgentOutput,
        features: Tensor,
        task: int,
        policy: nn.Module | None,
        value: nn.Module | None,
    ) -> AgentOutput:
        rotated = self.rotations.rotate(features, task)
        return replace(
            output,
            features=rotated,
            torso=rotated if self._agent.core is None else output.torso,
            logits=output.logits if policy is None else policy(rotated),
            value=output.value
            if value is None
            else self._agent.value_scale(value(rotated).squeeze(-1)),
        )

    def value_layers(self) -> Sequence[nn.Linear]:
        """The heads' copies of the value layer."""
        layers = (dict(own.named_children()).get("value") for own in self._copies.values())
        return [layer for layer in layers if isinstance(layer, nn.Linear)]

    def follow(self) -> None:
        """Lets the agent act with the main task's rotation, one step further."""
        self._updates += 1
        self._act_rotated()

    def _act_rotated(self) -> None:
        assert self._agent.rotation is not None
        self._agent.rotation.copy_(self.rotations.matrix[0])

    def metrics(self) -> Mapping[str, Float[Tensor, " K"]]:
        """How far each head's rotation is from the main task's."""
        return {"apart": self.rotations.apart()}

    @property
    def unreached(self) -> frozenset[str]:
        """Heads that encode observations themselves: nothing of theirs passes the features."""
        return self._unreached

    def state_dict(self) -> dict[str, Any]:
        """Rotations, and the layers that heads have in place of the agent's."""
        return {
            "rotated": {
                "rotations": self.rotations.state_dict(),
                "own": self._copies.state_dict(),
                "updates": self._updates,
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the state of a checkpoint."""
        saved = state["rotated"]
        self.rotations.load_state_dict(saved["rotations"])
        self._copies.load_state_dict(saved["own"])
        self._updates = saved["updates"]
        self._act_rotated()


class RotatedView(View):
    """Losses share the features, each through its own rotation."""

    def __init__(
        self, extension: RotatedFeatures, outputs: Sequence[AgentOutput], cut: Cut, rate: float
    ) -> None:
        """Keeps what `backward` needs; `RotatedFeatures.view` makes the arguments.

        Args:
            extension: owns the rotations, which `backward` turns.
            outputs: what each loss sees of the agent, the main loss first.
            cut: separates the rotated features from the network below them.
            rate: the learning rate of the rotations.
        """
        self.outputs = outputs
        self._extension = extension
        self._cut = cut
        self._rate = rate

    def backward(
        self,
        losses: Sequence[StepLoss],
        gate: Gate,
        owned: Ownership,
        *,
        rest: StepLoss | None = None,
        **options: Any,
    ) -> Judgement:
        """Weighs gradients over the features, and turns the rotations by one step."""
        assert rest is None, "rotograd compares with the whole main loss"
        judgement = rotated_backward(
            [loss.share for loss in losses],
            gate,
            self._extension.rotations,
            self._cut,
            owned.private,
            rate=self._rate,
            **options,
        )
        self._extension.follow()
        return judgement


def _copies(agent: ActorCritic, head: AuxiliaryHead) -> nn.ModuleDict:
    """Copies of the layers above the features that a head trains."""
    layers = {"policy": agent.policy, "value": agent.value}
    return nn.ModuleDict(
        {name: copy.deepcopy(layer) for name, layer in layers.items() if name in head.trains}
    )
