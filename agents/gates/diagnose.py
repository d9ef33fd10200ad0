"""Numbers to log about a `Judgement`, per auxiliary.  They stay on the device."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate, Judgement
from agents.gates.gramian import finite_rows, form


@dataclass(frozen=True)
class Diagnosis:
    """What a gate did with each of the K auxiliaries, over all groups of columns together.

    A vanished auxiliary has 0 everywhere.  What was not measured is NaN.
    """

    cosine: Float[Tensor, "*batch K"]
    """Between its gradient h and the main gradient g over all shared parameters."""
    weight: Float[Tensor, "*batch K"]
    """Of its own row; the mean over groups, weighted by its norm in each."""
    passed: Float[Tensor, "*batch K"]
    """Length of what it added over the length of its gradient: 1 = passed whole, 0 = blocked."""
    open: Float[Tensor, "*batch K"]
    """1 where anything passed, else 0; its mean over updates is how often the gate was open."""
    norm_ratio: Float[Tensor, "*batch K"]
    """`|h| / |g|`; 0 where the main gradient vanishes."""


def diagnose(gate: Gate, judgement: Judgement) -> Diagnosis:
    """Computes the numbers to log about a judgement.

    Args:
        gate: the gate that made it; it knows which share of the direction is due to which
            auxiliary.
        judgement: from `judge` or `gated_backward`.
    """
    gramian, weights = judgement.gramian, judgement.weights
    num_losses = weights.shape[-1] - gate.num_references
    total = torch.linalg.vector_norm(gramian.norm, dim=-2)  # [*batch, M]
    main, auxiliary = total[..., :1], total[..., 1:num_losses]
    # Norms relative to the whole row stay in range however large or small the gradients are.
    relative = _ratio(gramian.norm, total.unsqueeze(-2))  # [*batch, G, M]
    cosine = gramian.cosine[..., 0, 1:num_losses]  # [*batch, G, K]
    cosine = cosine * relative[..., :1] * relative[..., 1:num_losses]

    own = weights[..., 1:num_losses]  # [*batch, G, K]
    own_norm = gramian.norm[..., 1:num_losses]
    weight = _ratio(own * own_norm, own_norm.sum(-2, keepdim=True)).sum(-2)

    shares = gate.shares(gramian, weights)  # [*batch, G, K, M]
    added = shares * _ratio(gramian.norm.unsqueeze(-2), auxiliary[..., None, :, None])
    square = torch.einsum("...gki,...gij,...gkj->...k", added, gramian.cosine, added)
    passed = square.clamp(min=0.0).sqrt()

    unmeasured = auxiliary.isnan()
    passed = torch.where(unmeasured, own.abs().mean(-2), passed)
    return Diagnosis(
        cosine=cosine.sum(-2).clamp(-1.0, 1.0),
        weight=torch.where(unmeasured, own.mean(-2), weight),
        passed=passed,
        open=(passed > 0).to(passed.dtype),
        norm_ratio=_ratio(auxiliary, main),
    )


@torch.no_grad()
def main_cosine(rows: Float[Tensor, "*batch L P"]) -> Float[Tensor, "*batch K"]:
    """Measures the cosine of row 0 with each of the others, over all columns.

    0 where one of the two vanishes or is not finite.
    """
    return form(finite_rows(rows)[0]).cosine[..., 0, 0, 1:]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator == 0, 0.0, numerator / denominator)
