"""From the losses of one update to `.grad`: which gradients are judged, when, by what measure.

The gate itself knows rows of numbers alone (`agents/gates`).  Here is what an actor-critic
adds: which of its parameters are shared, which part of the main loss is the reference, when a
judgement is due, and what is added up over processes before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.gates import (
    Gate,
    Judgement,
    Scope,
    add_gradient,
    column_groups,
    diagnose,
    main_cosine,
    reused_backward,
    summed_backward,
)
from agents.gates.gramian import Gramian
from agents.heads import AuxiliaryHead
from agents.learning.auxinash import LearnedPreference
from agents.learning.optimizer import OwnerOptimizer
from agents.learning.shared import Gradients
from agents.learning.slices import Slices
from agents.learning.step_loss import MainTerms, StepLoss
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from gridworld.options import at_least

# Mean cosines between the gradients of all losses, kept on the device until they are drawn.

LEAST = 3
"""Losses that make a matrix: the one cosine of a single auxiliary is a curve in the log."""


class MeanCosines:
    """The matrix of cosines among the main loss and all auxiliaries, averaged over judgements."""

    def __init__(self) -> None:
        self._sum: Float[Tensor, "L L"] | None = None
        self._count = 0

    def add(self, gramian: Gramian, num_losses: int) -> None:
        """Adds one judgement, if it is one of several auxiliaries; never waits for the device.

        Args:
            gramian: of the losses, and of a gate's references after them.
            num_losses: how many of its rows are losses.
        """
        if num_losses < LEAST:
            return
        cosines = whole(gramian)[:num_losses, :num_losses]
        self._sum = cosines if self._sum is None else self._sum + cosines
        self._count += 1

    def drain(self) -> Float[Tensor, "L L"] | None:
        """Returns the mean since the last time and starts again; none without a judgement."""
        if self._sum is None:
            return None
        mean = self._sum / self._count
        self._sum, self._count = None, 0
        return mean


def whole(gramian: Gramian) -> Float[Tensor, "M M"]:
    """Cosines over all columns, from those of the groups that were judged apart.

    A row that vanishes has 0 with every row, itself included.
    """
    norm = torch.linalg.vector_norm(gramian.norm, dim=-2)  # [M]
    # Relative to the whole row, norms stay in range however large or small gradients are.
    relative = torch.where(norm == 0, 0.0, gramian.norm / norm)  # [G, M]
    product = relative.unsqueeze(-1) * relative.unsqueeze(-2)  # [G, M, M]
    return (gramian.cosine * product).sum(-3).clamp(-1.0, 1.0)


# The metric of the step that is taken: gradients as Adam's step sizes scale them.
#
# A plain step along -d changes the main loss by -<g, d>, to first order; Adam's, D^-1 d with
# D = sqrt(v) + epsilon, by -<g, D^-1 d>.  Rows times D^-1/2 have these as inner products.


@dataclass(frozen=True)
class Metric:
    """Scales columns before they are judged, and the direction back."""

    scale: Float[Tensor, " P"] | None = None
    """D^-1/2; none: gradients as they are."""

    @staticmethod
    def of_adam(denominator: Float[Tensor, " P"] | None) -> "Metric":
        """The metric of a step that is divided by `denominator`; plain where there is none yet."""
        return Metric(None if denominator is None else denominator.rsqrt())

    def enter(self, rows: Float[Tensor, "*rows P"]) -> Float[Tensor, "*rows P"]:
        """Rows to judge."""
        return rows if self.scale is None else rows * self.scale

    def leave(self, direction: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The direction as a gradient again."""
        return direction if self.scale is None else direction / self.scale

    def sign_differs(self, rows: Float[Tensor, "L P"]) -> Float[Tensor, " K"]:
        """1 where the sign of the cosine with row 0 is another one than the plain one, else 0.

        NaN, not measured, in the plain metric.
        """
        plain = main_cosine(rows)
        if self.scale is None:
            return torch.full_like(plain, torch.nan)
        return (plain.sign() != main_cosine(self.enter(rows)).sign()).to(plain.dtype)


Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Losses:
    """All that one update descends."""

    main: MainTerms
    auxiliary: Sequence[StepLoss]
    """Of the heads, in their order."""
    slices: Slices | None = None
    """What the losses are of, where slices of them are judged."""


@dataclass(frozen=True)
class JudgingConfig:
    """How gradients are judged, whatever the gate."""

    scope: Scope = "shared"
    """Judge all shared parameters together, each tensor apart, or each layer apart."""
    every: int = 1
    """Judge at every n-th update and reuse the weights in between."""
    main: Literal["all", "policy"] = "all"
    """Compare auxiliaries with the gradient of the whole main loss, or of its policy and entropy
    terms alone; the value term then goes along at the main loss's weight."""
    metric: Literal["plain", "optimizer"] = "plain"
    """Compare gradients as they are, or as Adam's step sizes scale them."""

    def __post_init__(self) -> None:
        at_least(self, 1, "every")


class Judging:
    """Owns the gate, the weights of its last judgement, and who shares which parameters."""

    def __init__(
        self,
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        gate: Gate,
        config: JudgingConfig,
        optimizer: OwnerOptimizer,
        processes: Processes = ALONE,
        seed: int = 0,
        preference: LearnedPreference | None = None,
    ) -> None:
        """Finds out what is shared.

        Args:
            agent: whose gradients are judged.
            heads: that share parameters with it, by name.
            gate: judges.
            config: how.
            optimizer: of the agent, for its metric.
            processes: whose gradients are added up.
            seed: of the random combinations of losses that a gate may ask for.
            preference: of the gate, where it is learnt.
        """
        assert gate.sample_rows == 0 or gate.slices == 0, "no gate asks for both"
        self.gate = gate
        self._agent, self._names = agent, tuple(heads)
        self._config, self._optimizer, self._processes = config, optimizer, processes
        self._gradients = Gradients(agent, heads, processes, seed)
        named = list(zip(self._gradients.names, self._gradients.shared, strict=True))
        self._groups = column_groups(config.scope, named) if named else (0,)
        # Of the last judgement, for the updates between judgements.
        self._weights: Float[Tensor, "G M"] | None = None
        self._judgements = 0
        self._preference = preference
        self.cosines = MeanCosines()
        """Of all losses, since they were last drawn."""

    def slices_due(self, update: int) -> int:
        """Into how many slices the losses of an update are to be cut; 0: they are not."""
        return self.gate.slices if self._names and self._is_due(update) else 0

    def _is_due(self, update: int) -> bool:
        """Whether an update is judged, and not made by the weights of an earlier judgement."""
        return self._weights is None or update % self._config.every == 0

    def backward(
        self, losses: Losses, update: int, *, fresh: bool = True
    ) -> tuple[Bool[Tensor, " L"], Metrics]:
        """Adds what the gate lets through to `.grad` of the agent, and to the heads' their own.

        Args:
            losses: of a batch.
            update: how many updates there were before.
            fresh: whether nothing has been learnt from their trajectory yet.

        Returns:
            Which losses and gradients are finite, and what is to be logged.
        """
        shares = [losses.main.whole.share, *(loss.share for loss in losses.auxiliary)]
        finite = self._processes.sum(torch.stack(shares)).isfinite()
        gradients = self._gradients
        if fresh and self._preference is not None:
            self._preference.learn(shares, gradients.shared)
        if not self._names:
            shares[0].backward()
            gradients.add_up(self._agent.parameters())
            return finite, {}
        if self._weights is not None and not self._is_due(update):
            weights = self._weights[0, : len(shares)]
            reused_backward(shares, weights, gradients.shared, gradients.private)
            gradients.add_up([*gradients.shared, *gradients.private])
            return finite, {}
        if self.gate.one_pass:
            judgement, metrics = self._add_all(shares)
            # One row of a summed loss stands for all.
            rows_finite = judgement.direction.sum().isfinite()
        else:
            judgement, metrics, rows_finite = self._judge(losses)
        gradients.add_up(gradients.private)
        self._weights = judgement.weights
        return finite & rows_finite, metrics

    def _add_all(self, shares: Sequence[Tensor]) -> tuple[Judgement, Metrics]:
        """Takes one backward pass of the summed loss."""
        judgement = summed_backward(
            shares,
            self.gate,
            self._gradients.shared,
            self._gradients.private,
            groups=self._groups,
            reduce=lambda rows, values: (self._processes.sum(rows), self._processes.sum(values)),
        )
        return judgement, self._diagnosed(judgement)

    def _judge(self, losses: Losses) -> tuple[Judgement, Metrics, Bool[Tensor, " L"]]:
        """Takes the gradient of each loss and adds what the gate makes of them."""
        gradients, gate = self._gradients, self.gate
        main, value = losses.main.whole, None
        if self._config.main == "policy":
            main = losses.main.policy
            share = losses.main.value.share
            tied = share if losses.slices is None else losses.slices.tied(share)
            value = gradients.rows([tied], retain=True)
        samples = slices = None
        if gate.sample_rows > 0 and self._judgements % gate.sample_every == 0:
            samples = gradients.combinations(main, gate.sample_rows)
        self._judgements += 1
        judged = [main, *losses.auxiliary]
        if losses.slices is not None:
            slices = gradients.slices(judged, losses.slices)
            rows = slices.sum(0)
        else:
            rows = gradients.rows([loss.share for loss in judged])
        values = self._processes.sum(torch.stack([loss.share for loss in judged]))
        finite = rows.sum(-1).isfinite()  # as the gate decides it
        if self._preference is not None:
            self._preference.remember(rows, values)

        metric = Metric()
        if self._config.metric == "optimizer":
            metric = Metric.of_adam(self._optimizer.denominator(gradients.shared))
        judgement = gate.judge(
            metric.enter(rows),
            values,
            self._groups,
            None if samples is None else metric.enter(samples),
            None if slices is None else metric.enter(slices),
        )
        metrics = self.report(judgement)
        if self._preference is not None:
            metrics |= self._named("preference", self._preference.gate.preference[1:].float())
        direction = metric.leave(judgement.direction)
        if self._config.metric == "optimizer":
            metrics |= self._named("sign_differs", metric.sign_differs(rows))
        if value is not None:
            direction = direction + self._at_main_weight(value[0], judgement)
            finite[0] &= value.sum().isfinite()
            whole = torch.cat([rows[:1] + value, rows[1:]])
            metrics |= self._named("cosine_all", main_cosine(metric.enter(whole)))
        add_gradient(gradients.shared, direction)
        return judgement, metrics, finite

    def _at_main_weight(
        self, row: Float[Tensor, " P"], judgement: Judgement
    ) -> Float[Tensor, " P"]:
        """The row at the weight that the main row has in each group."""
        blocks = row.split(list(self._groups))
        weights = judgement.weights[:, 0].unbind()
        return torch.cat([w * block for w, block in zip(weights, blocks, strict=True)])

    def report(self, judgement: Judgement) -> Metrics:
        """What is to be logged of a judgement; its cosines count among those to be drawn."""
        self.cosines.add(judgement.gramian, 1 + len(self._names))
        return self._diagnosed(judgement)

    def _diagnosed(self, judgement: Judgement) -> Metrics:
        diagnosis = diagnose(self.gate, judgement)
        metrics: Metrics = {}
        for field in fields(diagnosis):
            metrics |= self._named(field.name, getattr(diagnosis, field.name))
        for name, values in self.gate.notes(judgement.gramian).items():
            metrics |= self._named(name, values)
        return metrics

    def _named(self, metric: str, values: Float[Tensor, " K"]) -> Metrics:
        return {f"{name}/{metric}": values[index] for index, name in enumerate(self._names)}

    def state_dict(self) -> dict[str, Any]:
        """The gate's memory, and all else that the next judgement depends on."""
        state = {"gate": self.gate.state_dict(), "gate_weights": self._weights}
        if self._preference is not None:
            state["preference"] = self._preference.state_dict()
        if self.gate.sample_rows == 0:
            return state
        combinations = self._gradients.generator.get_state()
        return state | {"judgements": self._judgements, "combinations": combinations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.gate.load_state_dict(state["gate"])
        if self._preference is not None:
            self._preference.load_state_dict(state["preference"])
        weights = state["gate_weights"]
        device = next(self._agent.parameters()).device
        self._weights = None if weights is None else weights.to(device)
        if self.gate.sample_rows > 0:
            self._judgements = state["judgements"]
            self._gradients.generator.set_state(state["combinations"])
