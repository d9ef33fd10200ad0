"""What a run remembers of its judgements: cosines among all losses, and what each head was let in.

Both add up on the device, and wait for it only when they are read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates import Gramian, main_cosine

LEAST = 3
"""Losses that make a matrix of cosines: the one cosine of a single auxiliary is a curve."""


class Admissions:
    """How much of each head's gradient has passed the gate, and how often it agreed."""

    def __init__(self, names: Sequence[str]) -> None:
        """Starts at nothing.

        Args:
            names: of the heads, in their order.
        """
        self._names = tuple(names)
        self._sums: Float[Tensor, "4 K"] | None = None

    def add(self, passed: Float[Tensor, " K"], cosine: Float[Tensor, " K"]) -> None:
        """Adds one judgement; what was not measured (NaN) does not count.

        Args:
            passed: length of what each head added, over that of its gradient.
            cosine: of its gradient with the main one; a vanished one (0) counts as no agreement.
        """
        rows = [passed.nan_to_num(), ~passed.isnan(), cosine > 0, ~cosine.isnan()]
        new = torch.stack([row.float() for row in rows])
        if self._sums is None:
            self._sums = torch.zeros_like(new)
        # In place, for a CUDA graph; from a checkpoint they come on the host.
        self._sums = self._sums.to(new).add_(new)

    def sentences(self) -> list[str]:
        """Says of each head in one line how much was let in; waits for the device."""
        if self._sums is None:
            return []
        lines = []
        for name, (passed, weighed, agreed, compared) in zip(
            self._names, self._sums.mT.tolist(), strict=True
        ):
            if weighed == 0:
                continue
            line = f"{name}: {passed / weighed:.0%} of its gradient passed"
            agreement = f"it agreed in {agreed / max(1, compared):.0%} of the judgements"
            lines.append(f"{line}, {agreement}." if compared > 0 else f"{line}.")
        return [line.replace("%", " %") for line in lines]

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {} if self._sums is None else {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        sums = state.get("sums")
        self._sums = None if sums is None else sums.clone()


class MeanCosines:
    """The matrix of cosines among the main loss and all auxiliaries, averaged over judgements."""

    def __init__(self) -> None:
        self._sum: Float[Tensor, "L L"] | None = None
        self._count: Float[Tensor, ""] | None = None

    def add(self, gramian: Gramian, num_losses: int) -> None:
        """Adds one judgement, if it is one of several auxiliaries; never waits for the device.

        Args:
            gramian: of the losses, and of a gate's references after them.
            num_losses: how many of its rows are losses.
        """
        if num_losses < LEAST:
            return
        cosines = pooled_cosines(gramian)[:num_losses, :num_losses]
        if self._sum is None or self._count is None:
            self._sum, self._count = torch.zeros_like(cosines), cosines.new_zeros(())
        # In place, for a CUDA graph.
        self._sum.add_(cosines)
        self._count.add_(1.0)

    def drain(self) -> Float[Tensor, "L L"] | None:
        """Returns the mean since the last call and starts again; None if nothing was weighed.

        Waits for the device.
        """
        if self._sum is None or self._count is None or not self._count:
            return None
        mean = self._sum / self._count
        self._sum.zero_()
        self._count.zero_()
        return mean


def pooled_cosines(gramian: Gramian) -> Float[Tensor, "M M"]:
    """Computes cosines over all columns from those of the groups that were weighed apart.

    A row that vanishes has 0 with every row, itself included.
    """
    norm = torch.linalg.vector_norm(gramian.norm, dim=-2)  # [M]
    # Relative to the whole row, norms stay in range however large or small gradients are.
    relative = torch.where(norm == 0, 0.0, gramian.norm / norm)  # [G, M]
    product = relative.unsqueeze(-1) * relative.unsqueeze(-2)  # [G, M, M]
    return (gramian.cosine * product).sum(-3).clamp(-1.0, 1.0)


def sign_differs(
    rows: Float[Tensor, "L P"], metric: Float[Tensor, " P"] | None
) -> Float[Tensor, " K"]:
    """1 where a metric changes the sign of an auxiliary's cosine with the main row, else 0.

    NaN, not measured, without a metric.
    """
    plain = main_cosine(rows)
    if metric is None:
        return torch.full_like(plain, torch.nan)
    return (plain.sign() != main_cosine(rows * metric).sign()).to(plain.dtype)


def gradient_row(loss: Tensor, parameters: Sequence[Tensor]) -> Float[Tensor, " P"]:
    """The gradient of a loss over parameters, whose graph stays; 0 where it does not reach them."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])
