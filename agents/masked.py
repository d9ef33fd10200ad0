"""Statistics over the steps that count."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from agents.processes import ALONE, Processes


def masked_mean(value: Shaped[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]) -> Tensor:
    """Mean over the valid entries of this process; 0 where there are none."""
    return ALONE.share(value, valid)


def explained_variance(
    value: Float[Tensor, "T B"],
    target: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    processes: Processes = ALONE,
) -> Float[Tensor, ""]:
    """1 - Var(target - value) / Var(target) over valid steps; NaN where the target is constant."""

    def variance(x: Tensor) -> Tensor:
        return processes.mean((x - processes.mean(x, valid)).square(), valid)

    spread = variance(target)
    return torch.where(spread > 0, 1 - variance(target - value) / spread, torch.nan)


def explained_variance_of_vectors(
    value: Float[Tensor, "*shape F"],
    target: Float[Tensor, "*shape F"],
    valid: Bool[Tensor, " *shape"],
) -> Float[Tensor, ""]:
    """1 - sum_f Var(target_f - value_f) / sum_f Var(target_f) over the valid entries of `shape`.

    NaN where the target is constant.
    """
    weight = valid.unsqueeze(-1).to(target.dtype)
    count = weight.sum().clamp(min=1)
    lead = tuple(range(valid.dim()))

    def variance(x: Tensor) -> Tensor:
        kept = torch.where(valid.unsqueeze(-1), x, 0.0)
        mean = kept.sum(lead) / count
        return ((kept - mean).square() * weight).sum() / count

    spread = variance(target)
    return torch.where(spread > 0, 1 - variance(target - value) / spread, torch.nan)
