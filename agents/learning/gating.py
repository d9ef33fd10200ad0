"""From the losses of one update to `.grad`: when gradients are weighed, which, and in what metric.

A gate knows only rows of numbers (`agents.gates`). This module adds what an actor-critic needs:
which part of the main loss auxiliaries are compared with, at which updates the gate weighs anew,
what is summed over processes, and what is logged. Every gradient that a gate weighs goes through
`gated_backward`, by way of the update's `View`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.gates import Gate, Judgement, Scope, column_groups, diagnose, main_cosine
from agents.gates.methods.nash import AuxiNash
from agents.gates.methods.rotograd import RotoGrad
from agents.heads import AuxiliaryHead
from agents.learning.auxinash import LearnedPreference
from agents.learning.optimizer import OwnerOptimizer
from agents.learning.rotograd import RotatedFeatures
from agents.learning.step_loss import MainPart, MainTerms, StepLoss
from agents.learning.tallies import Admissions, MeanCosines, gradient_row, sign_differs
from agents.learning.tasks import Task
from agents.learning.views import (
    FeatureView,
    GateExtension,
    KeptWeights,
    Ownership,
    PlainView,
    SlicedView,
    View,
)
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, LateFlag, Processes
from agents.runtime.random import diverge, generator
from agents.trajectory import Trajectory
from gridworld.options import at_least

Metrics = dict[str, Tensor]

MEASURED = 100
"""Updates between two measurements of the policy's and the value's gradients."""


@dataclass(frozen=True)
class GatingConfig:
    """How gradients are weighed, whatever the gate."""

    scope: Scope = "shared"
    """Weigh all shared parameters together, each tensor apart, or each layer apart."""
    every: int = 1
    """Weigh at every n-th update and reuse the weights in between."""
    main: MainPart = "all"
    """Compare auxiliaries with the gradient of the whole main loss, of its policy and entropy
    terms (policy), or of its policy term alone (return); the rest goes along at the main loss's
    weight."""
    metric: Literal["plain", "optimizer"] = "plain"
    """Compare gradients as they are, or as Adam's step sizes scale them."""
    at: Literal["parameters", "features"] = "parameters"
    """Compare gradients over all shared parameters, with one backward pass per loss, or over the
    features that the losses share, with one backward pass through torso and core in all."""

    def __post_init__(self) -> None:
        at_least(self, 1, "every")


def extension_of(
    gate: Gate,
    agent: ActorCritic,
    heads: Mapping[str, AuxiliaryHead],
    processes: Processes = ALONE,
) -> GateExtension:
    """Builds what a gate's method needs outside the gate; nothing for most gates.

    A new method of this kind is a `GateExtension` in a file of this package and one line here.

    Args:
        gate: whose method.
        agent: that it acts on.
        heads: by name.
        processes: that make every update together.
    """
    match gate:
        case RotoGrad():
            return RotatedFeatures(gate, agent, heads, processes)
        case AuxiNash(learn_every=every) if every > 0:
            return LearnedPreference.of(gate, processes)
    return GateExtension()


class Gating:
    """Owns the gate, the weights of its last judgement, and who shares which parameters."""

    def __init__(
        self,
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        gate: Gate,
        config: GatingConfig,
        optimizer: OwnerOptimizer,
        processes: Processes = ALONE,
        seed: int = 0,
        others: Sequence[nn.Parameter] = (),
        rivals: Sequence[Task] = (),
    ) -> None:
        """Divides the parameters into shared and private ones.

        Args:
            agent: whose gradients are weighed.
            heads: that share parameters with the main loss, by name.
            gate: weighs.
            config: when, and what is compared.
            optimizer: of the agent, for its metric.
            processes: whose gradients are summed.
            seed: of the random combinations of losses that a gate may ask for.
            others: private parameters outside agent and heads.
            rivals: tasks whose losses pass the gate, with those of their heads.
        """
        assert gate.sample_rows == 0 or gate.slices == 0, "no gate asks for both"
        self.gate = gate
        self.extension = extension_of(gate, agent, heads, processes)
        self._agent = agent
        guests = [name for task in rivals for name in task.heads]
        self._names = (*(task.name for task in rivals), *heads, *guests)
        self._config, self._optimizer, self._processes = config, optimizer, processes
        others = [*others, *(p for task in rivals for p in task.private(agent))]
        common = {part for task in rivals for part in task.common(agent)}
        self._owned = self.extension.ownership(Ownership.of(agent, heads, others, common))
        self._at_features = config.at == "features"
        # They get their gradient through the features.
        self._below: list[nn.Parameter] = []
        if self._at_features:
            self._owned, self._below = self._owned.at_features()
        self._shared = list(self._owned.shared.values())
        # Without heads, or where they share nothing with the main loss, there is nothing to weigh.
        shares = bool(self._shared) or bool(self._below) or self.extension.shares_features
        self._weighs = bool(self._names) and shares
        named = list(self._owned.shared.items())
        grouped = bool(named) and not self._at_features  # the view knows how many features
        self._groups = column_groups(config.scope, named) if grouped else None
        # What policy and value share.
        self._common = [*agent.torso.parameters()]
        self._common += [] if agent.core is None else [*agent.core.parameters()]
        # Of the last judgement, for the updates in between.
        self._weights: Float[Tensor, "G M"] | None = None
        self._judgements = 0
        self._apart = copy.copy(gate)  # for losses whose sum is not finite: one pass for each
        self._apart.one_pass = False
        self._spoilt = LateFlag()
        # On the host, so that it goes on wherever a run is resumed.
        self._samples = generator(seed, f"samples {processes.rank}", torch.device("cpu"))
        self.cosines = MeanCosines()
        """Mean cosines of all losses, since they were last drawn."""
        self.admissions = Admissions(self._names)
        """How much of each head's gradient has passed, over the run."""

    def is_due(self, update: int) -> bool:
        """Whether gradients are weighed at an update, instead of by the weights of an earlier one.

        Args:
            update: how many updates there were before.
        """
        return self._weights is None or update % self._config.every == 0

    def view(self, trajectory: Trajectory, update: int, learning_rate: float) -> View:
        """Unrolls the agent over a trajectory, in the form in which the gate needs its output.

        Args:
            trajectory: the whole, or a minibatch.
            update: how many updates there were before.
            learning_rate: of the network at this update.
        """
        num_losses = 1 + len(self._names)
        if self.gate.slices > 0 and self._weighs and self.is_due(update):
            return SlicedView(self._agent, trajectory, self.gate.slices, num_losses)
        output = self._agent.unroll(trajectory)
        if self._at_features and self._weighs:
            return FeatureView(self._agent, output, num_losses, self._config.scope, self._processes)
        return self.extension.view(output, learning_rate) or PlainView(output, num_losses)

    def measures(self, update: int) -> bool:
        """Whether the gradients of policy and value are measured at an update."""
        return update % MEASURED == 0

    @property
    def is_spoilt(self) -> bool:
        """Whether losses or gradients of the update before were not finite (see `put`)."""
        return self._spoilt.read()

    def put(self, finite: Bool[Tensor, " L"]) -> None:
        """Remembers for the next update which losses and gradients of this one are finite."""
        self._spoilt.put(~finite.all())

    def backward(
        self,
        view: View,
        main: MainTerms,
        auxiliary: Sequence[StepLoss],
        update: int,
        *,
        spoilt: bool | None = None,
        fresh: bool = True,
        descend_main: bool = True,
    ) -> tuple[Bool[Tensor, " L"], Metrics]:
        """Adds what the gate lets through to `.grad` of the agent, and to the heads' own.

        Args:
            view: what the losses are of.
            main: the main loss and its terms.
            auxiliary: losses of the heads, in their order.
            update: how many updates there were before.
            spoilt: whether losses must be differentiated one by one, since their sum is not
                finite; None to find out, and to remember it for the next update.
            fresh: whether nothing has been learnt from their trajectory yet.
            descend_main: whether the main loss is descended, or only compared with.

        Returns:
            Which losses and gradients are finite, and what is to be logged.
        """
        shares = [main.whole.share, *(loss.share for loss in auxiliary)]
        means = [main.whole.mean, *(loss.mean for loss in auxiliary)]
        finite = torch.stack(means).isfinite()
        looks = spoilt is None
        if spoilt is None:
            # On a GPU, looking at the losses of this update would mean to wait for them.
            on_host = finite.device.type == "cpu"
            spoilt = self.is_spoilt or (on_host and bool(finite[0] & ~finite.all()))
        if fresh:
            self.extension.observe(shares, self._shared)
        metrics = self._main_parts(view, main, update)
        kept = None if self.is_due(update) else self._weights
        if not self._weighs:
            descended = shares if descend_main else shares[1:]
            sum(descended[1:], descended[0]).backward()
        elif kept is not None and not spoilt:
            judgement = view.backward(
                [main.whole, *auxiliary],
                self.gate,
                self._owned,
                weights=kept[0, : len(shares)],
                descend_main=descend_main,
                reduce=self._reduce,
            )
            assert judgement.finite is not None
            finite = finite & judgement.finite
        else:
            metric = self._metric() if self._config.metric == "optimizer" else None
            gate = self._apart if spoilt else self.gate
            if kept is not None and gate.slices > 0:  # and the view has none
                gate = KeptWeights(kept)
            judgement = self._weigh(gate, view, main, auxiliary, metric, descend_main)
            if kept is None:
                self._keep(judgement.weights)
            assert judgement.finite is not None
            finite = finite & judgement.finite
            if judgement.rest is not None:
                finite[0] &= judgement.rest.sum().isfinite()
            metrics |= self._report(gate, judgement, metric)
        if looks:
            self.put(finite)
        self._processes.add_up([*self._below, *self._owned.private])
        return finite, metrics

    def _keep(self, weights: Float[Tensor, "G M"]) -> None:
        """Keeps the weights for later updates: in place, so that CUDA graphs find them."""
        if self._weights is None or self._weights.shape != weights.shape:
            self._weights = torch.empty_like(weights)
        self._weights.copy_(weights)

    def _main_parts(self, view: View, main: MainTerms, update: int) -> Metrics:
        """Measures now and then whose gradient the main loss is: the policy's or the value's.

        Args:
            view: only the plain one lets the terms be differentiated by themselves.
            main: the main loss and its terms.
            update: how many updates there were before.
        """
        if not self.measures(update) or not isinstance(view, PlainView):
            return {}
        terms = [main.actor.share, main.value.share]
        if not all(term.requires_grad for term in terms):
            return {}
        rows = self._processes.sum(
            torch.stack([gradient_row(term, self._common) for term in terms])
        )
        policy, value = torch.linalg.vector_norm(rows, dim=-1).unbind()
        return {
            "policy_gradient": policy,
            "value_gradient": value,
            "policy_value_cosine": main_cosine(rows)[0],
        }

    def _weigh(
        self,
        gate: Gate,
        view: View,
        main: MainTerms,
        auxiliary: Sequence[StepLoss],
        metric: Float[Tensor, " P"] | None,
        descend_main: bool,
    ) -> Judgement:
        options: dict[str, Any] = {"reduce": self._reduce}
        if self._groups is not None:
            options["groups"] = self._groups
        if not descend_main:
            options["descend_main"] = False
        if gate.one_pass:
            return view.backward([main.whole, *auxiliary], gate, self._owned, **options)
        compared, rest = main.divided(self._config.main)
        if metric is not None:
            options["metric"] = metric
        if gate.sample_rows > 0 and self._judgements % gate.sample_every == 0:
            options["samples"] = self._combinations(compared, gate.sample_rows)
        self._judgements += 1
        return view.backward([compared, *auxiliary], gate, self._owned, rest=rest, **options)

    def _reduce(self, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sums gradients and losses over processes, before they are weighed."""
        return self.extension.remember(*self._processes.sums([rows, values]))

    def _metric(self) -> Float[Tensor, " P"] | None:
        """The metric of the optimizer's step, D^-1/2; None before the first step.

        A plain step along -d changes the main loss by -<g, d>, to first order; Adam's, D^-1 d with
        D = sqrt(v) + epsilon, by -<g, D^-1 d>. Rows times D^-1/2 have these as inner products.
        """
        denominator = self._optimizer.denominator(self._shared)
        return None if denominator is None else denominator.rsqrt()

    def _combinations(self, loss: StepLoss, count: int) -> list[Tensor]:
        """Sums of single steps' losses, each step times a normal random number."""
        factors = torch.randn(count, *loss.steps.shape, generator=self._samples)
        factors = factors.to(loss.steps.device, non_blocking=True)
        return [loss.combined(factor) for factor in factors.unbind()]

    def _report(self, gate: Gate, judgement: Judgement, metric: Tensor | None) -> Metrics:
        """Numbers to log of a judgement; its cosines count among those to be drawn."""
        if judgement.rows is not None:
            self.cosines.add(judgement.gramian, 1 + len(self._names))
        diagnosis = diagnose(gate, judgement)
        self.admissions.add(diagnosis.passed, diagnosis.cosine)
        found = {field.name: getattr(diagnosis, field.name) for field in fields(diagnosis)}
        found |= gate.notes(judgement.gramian)
        metrics = self._named(found) | self._named(self.extension.metrics())
        # Nothing was measured of a head that the gate cannot reach.
        for key in metrics:
            if key.partition("/")[0] in self.extension.unreached:
                metrics[key] = torch.full_like(metrics[key], torch.nan)
        if judgement.rows is not None:
            metrics |= self._named(self._compared(judgement.rows, judgement.rest, metric))
        return metrics

    def _compared(
        self,
        rows: Float[Tensor, "L P"],
        rest: Float[Tensor, " P"] | None,
        metric: Float[Tensor, " P"] | None,
    ) -> dict[str, Float[Tensor, " K"]]:
        """What other choices of metric and main loss would have measured."""
        found = {}
        if self._config.metric == "optimizer":
            found["sign_differs"] = sign_differs(rows, metric)
        if rest is not None:
            whole = torch.cat([rows[:1] + rest, rows[1:]])
            found["cosine_all"] = main_cosine(whole if metric is None else whole * metric)
        return found

    def _named(self, found: Mapping[str, Float[Tensor, " K"]]) -> Metrics:
        return {
            f"{name}/{metric}": values[index]
            for metric, values in found.items()
            for index, name in enumerate(self._names)
        }

    def state_dict(self) -> dict[str, Any]:
        """The gate's memory, and everything else that the next judgement depends on."""
        state = self.extension.state_dict() | {"gate": self.gate.state_dict()}
        state |= {"gate_weights": self._weights, "spoilt": self.is_spoilt}
        state["admissions"] = self.admissions.state_dict()
        if self.gate.sample_rows > 0:
            state |= {"judgements": self._judgements, "combinations": self._samples.get_state()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.gate.load_state_dict(state["gate"])
        self.extension.load_state_dict(state)
        self.admissions.load_state_dict(state.get("admissions", {}))  # not in older checkpoints
        device, weights = next(self._agent.parameters()).device, state["gate_weights"]
        self._spoilt.put(torch.tensor(state.get("spoilt", False), device=device))  # nor this
        self._weights = None if weights is None else weights.to(device, copy=True)
        if self.gate.sample_rows > 0:
            self._judgements = state["judgements"]
            self._samples.set_state(state["combinations"])
            diverge(self._samples, self._processes.rank)
