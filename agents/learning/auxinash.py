"""AuxiNash's learnt preference: bargaining powers that follow what helps the main loss.

Shamsian, Navon, Glazer, Kawaguchi, Chechik, Fetaya: "Auxiliary Learning as an Asymmetric
Bargaining Game", https://arxiv.org/abs/2301.13501; the series is that of Lorraine, Vicol,
Duvenaud: "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590.  In any training loop:

    gate = make("auxinash")
    preference = LearnedPreference(gate)
    for batch in batches:
        optimizer.zero_grad()
        losses = [main_loss(model, batch), auxiliary_loss(model, batch)]
        preference.learn(losses, shared)
        gated_backward(losses, gate, shared, private, reduce=preference.remember)
        optimizer.step()

`gate.preference` is what has been learnt so far.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.methods.nash import LEAST, AuxiNash
from agents.learning.views import GateExtension
from agents.runtime.distributed import ALONE, Processes

CLIP = 1.0
"""Longest step before the learning rate, as in the authors' code."""


class LearnedPreference(GateExtension):
    """Descends the main loss on fresh data by the preference p of an `AuxiNash` gate.

    The weights a of a judgement solve the bargaining problem for p, so a small change of p
    changes the step -sum_i a_i g_i that was taken, and this the main loss after it:

        dL/dp_j = -sum_i <q, g_i> da_i/dp_j,    da/dp = (G + diag(p / a^2))^-1 diag(1 / a)
        q = sum_{n=0..terms} (I - inner_rate H)^n dL/dtheta

    L is the main loss on the *next* batch, after the step, and H the Hessian of
    `sum_i a_i loss_i`, on that batch too.  With no terms it is the exact derivative, per unit of
    the learning rate, of the loss after one plain gradient step; each term is one step more, and
    many of them are implicit differentiation of the optimum.

    p moves by gradient descent with momentum along the plane where its sum is 1, and is then put
    back, by the shortest way, to where every part is at least 1e-4.  A batch teaches nothing if
    a gradient of the step before it vanished, or anything is not finite.

    Departures from the paper: H and L on one batch and g_i those of the step that was taken (in
    the authors' code L on one fresh batch, H and g_i on another); the gradient is freed of its
    mean, a way that p cannot go, and then clipped; p sums to 1, as in the text, and is projected
    (in the code it sums to the number of losses, and is clipped and scaled).  Momentum, Adam and
    clipping, which may follow the gate, are not differentiated.
    """

    def __init__(
        self,
        gate: AuxiNash,
        every: int = 25,
        learning_rate: float = 5e-3,
        momentum: float = 0.9,
        terms: int = 3,
        inner_rate: float = 1e-4,
        processes: Processes = ALONE,
    ) -> None:
        """Learns the preference of `gate`, which starts as it is there.

        Args:
            gate: whose `preference` is learnt.
            every: learn from every n-th batch.
            learning_rate: of the preference.
            momentum: of the preference.
            terms: of the Neumann series, after the first; each costs two backward passes.
            inner_rate: in the series: below 2 over the largest curvature, or it diverges.
            processes: which share every batch.

        Raises:
            ValueError: a number is outside its range.
        """
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}.")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be above 0 and finite, not {learning_rate}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {momentum}.")
        if terms < 0:
            raise ValueError(f"terms must be 0 or more, not {terms}.")
        if not 0 < inner_rate < float("inf"):
            raise ValueError(f"inner_rate must be above 0 and finite, not {inner_rate}.")
        self.gate = gate
        self._every = every
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._terms = terms
        self._inner_rate = inner_rate
        self._processes = processes
        self._batches = 0
        self._rows: Float[Tensor, "L P"] | None = None
        self._velocity: Float[Tensor, " L"] | None = None

    @staticmethod
    def of(gate: AuxiNash, processes: Processes = ALONE) -> "LearnedPreference":
        """Learns as the gate's options say."""
        return LearnedPreference(
            gate, gate.learn_every, gate.learn_rate, terms=gate.learn_terms, processes=processes
        )

    def observe(self, losses: Sequence[Tensor], shared: Sequence[Tensor]) -> None:
        """Learns from a fresh batch; the same as `learn`."""
        self.learn(losses, shared)

    def metrics(self) -> Mapping[str, Float[Tensor, " K"]]:
        """The preference of each auxiliary."""
        return {"preference": self.gate.preference[1:].float()}

    def learn(self, losses: Sequence[Tensor], shared: Sequence[Tensor]) -> None:
        """Takes notice of a fresh batch, and learns from it when it is due.

        Args:
            losses: of the batch, before anything has gone backward; the main loss first.
            shared: parameters that the gate governs, all in the graph of the losses.
        """
        due = self._batches % self._every == 0
        self._batches += 1
        if due and self._rows is not None:
            self._step(self._gradient(losses, shared, self._rows))
        self._rows = None

    def remember(self, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the gradients that the gate is about to judge; gives back what it was given.

        Args:
            rows: of all processes together.
            values: of the losses.
        """
        if self.gate.preference.numel() == 0:
            num_losses = rows.shape[0]
            equal = rows.new_full((num_losses,), 1 / num_losses, dtype=torch.float64)
            self.gate.preference = equal
        # Only where the next batch is due: they are as large as the model, times the losses.
        if self._batches % self._every == 0:
            self._rows = rows
        return rows, values

    def _gradient(
        self, losses: Sequence[Tensor], shared: Sequence[Tensor], rows: Float[Tensor, "L P"]
    ) -> Float[Tensor, " L"]:
        """The derivative of the main loss by p; NaN where the batch teaches nothing."""
        # p has not moved since: the same judgement once more.
        judgement = self.gate.judge(rows)
        weights, gramian = judgement.weights, judgement.gramian
        sensitivity = self.gate.sensitivity(gramian, weights)[0]
        towards = self._series(losses, shared, weights[0])
        gradient = -(rows @ towards) @ sensitivity
        return torch.where((gramian.norm > 0).all(), gradient, torch.nan)

    def _series(
        self, losses: Sequence[Tensor], shared: Sequence[Tensor], weights: Float[Tensor, " L"]
    ) -> Float[Tensor, " P"]:
        """Adds up `(I - inner_rate H)^n v` for n = 0 to `terms`, v the main gradient."""
        gradients = torch.autograd.grad(
            losses[0], shared, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        vector = self._processes.sum(_flat(gradients))
        total = vector
        if self._terms == 0:
            return total
        weighted = sum(weight.to(loss) * loss for weight, loss in zip(weights, losses, strict=True))
        assert isinstance(weighted, Tensor)
        slope = _flat(
            torch.autograd.grad(
                weighted, shared, create_graph=True, allow_unused=True, materialize_grads=True
            )
        )
        for _ in range(self._terms):
            curved = torch.autograd.grad(
                slope,
                shared,
                vector,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            vector = vector - self._inner_rate * self._processes.sum(_flat(curved))
            total = total + vector
        return total

    @torch.no_grad()
    def _step(self, gradient: Float[Tensor, " L"]) -> None:
        preference = self.gate.preference
        sound = gradient.isfinite().all()
        gradient = torch.where(sound, gradient, 0.0).to(preference)
        if self._velocity is None:
            self._velocity = torch.zeros_like(preference)
        step = gradient - gradient.mean()
        step = step * (CLIP / step.norm()).clamp(max=1.0)
        velocity = self._momentum * self._velocity + step
        moved = onto_simplex(preference - self._learning_rate * velocity)
        self._velocity = torch.where(sound, velocity, self._velocity)
        preference.copy_(torch.where(sound, moved, preference))

    def state_dict(self) -> dict[str, Any]:
        """All but the preference itself, which the gate has."""
        state = {"batches": self._batches, "rows": self._rows, "velocity": self._velocity}
        return {"preference": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        state = state["preference"]
        device = self.gate.preference.device
        rows, velocity = state["rows"], state["velocity"]
        self._batches = state["batches"]
        self._rows = None if rows is None else rows.to(device)
        self._velocity = None if velocity is None else velocity.to(device)


def onto_simplex(point: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """The nearest point whose parts sum to 1 and are at least 1e-4 (Held et al. 1974)."""
    spare = 1.0 - point.numel() * LEAST
    ordered = (point - LEAST).sort(descending=True).values
    count = torch.arange(1, point.numel() + 1, dtype=point.dtype, device=point.device)
    # A GPU has no `cumsum` of floats that is the same in every run.
    sums = torch.stack(list(accumulate(ordered.unbind())))
    excess = (sums - spare) / count
    # Parts stay above the border as long as what all of them lose does not eat up the next one.
    kept = (ordered > excess).sum() - 1
    return (point - LEAST - excess.index_select(0, kept.unsqueeze(0))).clamp(min=0.0) + LEAST


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
