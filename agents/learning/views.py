"""What the losses of one update see of the agent, and how their gradients get back into it.

A `View` is made once per update. Its `outputs` are what the main loss and each head read; its
`backward` calls `gated_backward` on whatever the losses share: the agent's parameters here, its
features in `rotograd`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.gates import Gate, Gramian, Judgement, Scope, column_groups, gated_backward
from agents.heads import AuxiliaryHead
from agents.learning.rotations import Cut
from agents.learning.step_loss import StepLoss
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.trajectory import AgentOutput, Trajectory


@dataclass(frozen=True)
class Ownership:
    """Which parameters several losses train, and which belong to one loss."""

    shared: Mapping[str, nn.Parameter]
    """Trained by the main loss and at least one head, by name."""
    private: Sequence[nn.Parameter]
    """The rest of the agent, and the parameters of heads and algorithm."""

    @staticmethod
    def of(
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        others: Sequence[nn.Parameter] = (),
        common: Iterable[str] = (),
    ) -> "Ownership":
        """Divides parameters by what the heads declare in `trains`.

        The main loss counts as training all parts of the agent, so a part is shared where a head
        trains it. A part that the main loss does not reach has a main gradient of zeros there.

        Args:
            agent: whose parts are divided.
            heads: by name.
            others: private parameters outside agent and heads, such as an algorithm's critic.
            common: parts that the losses of other tasks reach as well.
        """
        reached = {part for head in heads.values() for part in head.trains} | set(common)
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
        return Ownership(shared, [*private, *others])

    def at_features(self) -> tuple["Ownership", list[nn.Parameter]]:
        """Says who owns what where gradients are weighed at the features.

        Returns:
            What is shared above the features, and the parameters below them that were shared.
        """
        is_below = {name: name.startswith(("torso.", "core.")) for name in self.shared}
        above = {name: p for name, p in self.shared.items() if not is_below[name]}
        below = [p for name, p in self.shared.items() if is_below[name]]
        return Ownership(above, self.private), below


class View(ABC):
    """What the losses of one update see of the agent's output."""

    outputs: Sequence[AgentOutput]
    """One for each loss, the main loss first."""

    @abstractmethod
    def backward(
        self,
        losses: Sequence[StepLoss],
        gate: Gate,
        owned: Ownership,
        *,
        rest: StepLoss | None = None,
        **options: Any,
    ) -> Judgement:
        """Adds the gated gradient to `.grad` through `gated_backward`.

        Args:
            losses: of this view's outputs, the main loss (or the part that is compared) first.
            gate: weighs their gradients.
            owned: which parameters are shared, which private.
            rest: the part of the main loss that is not compared.
            options: more arguments of `gated_backward`.
        """


class KeptWeights(Gate):
    """Gives the weights of an earlier judgement, loss by loss, so that one can be dropped.

    A gate that asks for slices cannot judge between its judgements, when the data is whole.
    """

    def __init__(self, weights: Float[Tensor, "G M"]) -> None:
        """Takes the weights.

        Args:
            weights: of every group and row.
        """
        super().__init__()
        self._weights = weights.clone()

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Returns the weights, whatever the gradients are."""
        return self._weights.expand_as(gramian.norm)


class PlainView(View):
    """All losses see the same output and reach the agent's parameters through it."""

    def __init__(self, output: AgentOutput, num_losses: int) -> None:
        self.outputs = [output] * num_losses

    def backward(
        self,
        losses: Sequence[StepLoss],
        gate: Gate,
        owned: Ownership,
        *,
        rest: StepLoss | None = None,
        **options: Any,
    ) -> Judgement:
        """Weighs gradients over the shared parameters."""
        return gated_backward(
            [loss.share for loss in losses],
            gate,
            [*owned.shared.values()],
            owned.private,
            rest=None if rest is None else rest.share,
            **options,
        )


class FeatureView(View):
    """Losses see features that are cut from the network below, where their gradients are weighed.

    What is cut are the features after the core, and those of the torso where there is a core,
    since heads may read either. Policy and value are computed from the cut features. Gradients
    over the cut features and over shared parameters above them are weighed, which costs one pass
    through policy and heads for each loss; then one pass takes what comes out through core and
    torso.
    """

    def __init__(
        self,
        agent: ActorCritic,
        output: AgentOutput,
        num_losses: int,
        scope: Scope,
        processes: Processes = ALONE,
    ) -> None:
        """Cuts the output.

        Args:
            agent: whose output it is.
            output: with its graph.
            num_losses: that will read it, main included.
            scope: what is weighed together; the features are a layer and a tensor by themselves.
            processes: that make the update together.
        """
        below = {"features": output.features}
        if agent.core is not None:
            below["torso"] = output.torso
        self._cut = Cut(list(below.values()), processes.rank, processes.size)
        self._names, self._scope = list(below), scope
        pieces = dict(zip(below, self._cut.pieces, strict=True))
        features = pieces["features"]
        logits, value = agent.read(features)
        cut = replace(
            output,
            features=features,
            torso=pieces.get("torso", features),
            logits=logits,
            value=value,
        )
        self.outputs = [cut] * num_losses

    def backward(
        self,
        losses: Sequence[StepLoss],
        gate: Gate,
        owned: Ownership,
        *,
        rest: StepLoss | None = None,
        **options: Any,
    ) -> Judgement:
        """Weighs gradients over the features, and takes what comes out through the network."""
        if "weights" not in options:
            columns = zip(self._names, self._cut.leaves, strict=True)
            named = [(f"{name}.cut", leaf) for name, leaf in columns]
            options["groups"] = column_groups(self._scope, [*named, *owned.shared.items()])
        judgement = gated_backward(
            [loss.share for loss in losses],
            gate,
            [*owned.shared.values()],
            owned.private,
            features=self._cut.leaves,
            rest=None if rest is None else rest.share,
            **options,
        )
        self._cut.backward()
        return judgement


class SlicedView(View):
    """Unrolls slices of the environments apart, so that each can be differentiated by itself.

    A backward pass of one slice's losses through a common graph would cost as much as one of all
    environments: most of its gradients are zeros, but they are multiplied all the same.

    The output is detached from the network: losses lead no further down than to its leaves.
    `reattached` leads a loss through the network again, and `split` does so slice by slice.
    """

    def __init__(
        self,
        agent: ActorCritic,
        trajectory: Trajectory,
        count: int,
        num_losses: int = 1,
    ) -> None:
        """Unrolls the agent over each slice.

        Args:
            agent: that sees.
            trajectory: whose environments are cut, as `StepLoss.sliced` does.
            count: how many slices; no more than there are environments.
            num_losses: that will read the output, main included.
        """
        self.count = count
        columns = trajectory.action.shape[1]
        assert count <= columns, "no slice is empty"
        number = torch.arange(columns) * count // columns
        device = trajectory.action.device
        parts = [
            agent.unroll(
                trajectory.select((number == s).nonzero()[:, 0].to(device, non_blocking=True))
            )
            for s in range(count)
        ]
        self._sources: list[list[Tensor]] = [[] for _ in parts]
        self._leaves: list[list[Tensor]] = [[] for _ in parts]
        whole: dict[str, Any] = {}
        for field in fields(AgentOutput):
            found = [getattr(part, field.name) for part in parts]
            if found[0] is None or found[0].dim() == 0:
                whole[field.name] = found[0]
                continue
            leaves = [each.detach().requires_grad_() for each in found]
            for s, (source, leaf) in enumerate(zip(found, leaves, strict=True)):
                self._sources[s].append(source)
                self._leaves[s].append(leaf)
            # The core's state has no time: there the environments lead.
            whole[field.name] = torch.cat(leaves, 0 if field.name == "core_state" else 1)
        self.output = AgentOutput(**whole)
        self.outputs = [self.output] * num_losses

    def backward(
        self,
        losses: Sequence[StepLoss],
        gate: Gate,
        owned: Ownership,
        *,
        rest: StepLoss | None = None,
        **options: Any,
    ) -> Judgement:
        """Weighs gradients over the shared parameters, slice by slice."""
        return gated_backward(
            [loss.share for loss in losses],
            gate,
            [*owned.shared.values()],
            owned.private,
            slices=[list(part) for part in zip(*map(self.split, losses), strict=True)],
            rest=None if rest is None else self.reattached(rest.share),
            **options,
        )

    def reattached(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Returns the same number with the loss's gradient through the network."""
        below = torch.stack(self._below(loss)).sum()
        return loss + (below - below.detach())

    def split(self, loss: StepLoss) -> tuple[Float[Tensor, ""], ...]:
        """Returns the loss's share of each slice, with its gradient through the network.

        The gradient is what comes through the slice's environments, and, where a loss uses
        parameters directly instead of the output, the part due to the slice's steps.
        """
        shares = loss.sliced(self.count)
        below = self._below(loss.share)
        return tuple(
            share + (part - part.detach()) for share, part in zip(shares, below, strict=True)
        )

    def _below(self, loss: Float[Tensor, ""]) -> list[Float[Tensor, ""]]:
        """Scalars whose gradients are the loss's through each slice's part of the network."""
        if not loss.requires_grad:  # a head that had nothing to learn
            return [torch.zeros_like(loss)] * self.count
        leaves = [leaf for part in self._leaves for leaf in part]
        found = iter(torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True))
        below = []
        for sources in self._sources:
            total = torch.zeros_like(loss)
            for source in sources:
                gradient = next(found)
                if gradient is not None and source.requires_grad:
                    total = total + (gradient * source).sum()
            below.append(total)
        return below


class GateExtension:
    """The part of a gate's method that acts on the network, outside the gate itself.

    This base class does nothing, which is right for every gate that needs gradients alone.
    """

    shares_features = False
    """Whether losses share the agent's features, and no parameters."""

    def parameters(self, head: str) -> Sequence[nn.Parameter]:
        """Parameters that are trained together with a head's own."""
        return ()

    def ownership(self, owned: Ownership) -> Ownership:
        """Says which parameters are shared, given what the heads declare."""
        return owned

    def view(self, output: AgentOutput, learning_rate: float) -> View | None:
        """Makes the view of one update; None for the plain one."""
        return None

    def observe(self, losses: Sequence[Tensor], shared: Sequence[Tensor]) -> None:
        """Learns from the losses of a fresh trajectory before they go backward."""

    def remember(self, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sees the rows and losses of all processes before they are weighed; returns them."""
        return rows, values

    def value_layers(self) -> Sequence[nn.Linear]:
        """Value layers that heads have in place of the agent's."""
        return ()

    def metrics(self) -> Mapping[str, Float[Tensor, " K"]]:
        """Numbers to log of each auxiliary after an update."""
        return {}

    @property
    def unreached(self) -> frozenset[str]:
        """Names of the heads that the gate cannot reach; the run says so when it starts."""
        return frozenset()

    def state_dict(self) -> dict[str, Any]:
        """What the next update depends on."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the state of a checkpoint, in which `state_dict` is contained."""
