"""Advantages of zero mean and unit variance."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.processes import ALONE, Processes


def normalized(
    advantage: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"], processes: Processes = ALONE
) -> Float[Tensor, "T B"]:
    """Shifts and scales to zero mean and unit variance over the valid steps; 0 at the others.

    Mean and variance are those of all processes together.
    """
    centred = torch.where(valid, advantage - processes.mean(advantage, valid), 0.0)
    variance = processes.mean(centred.square(), valid)
    # As in PPO's codes; the constant matters only where all advantages are alike.
    return centred / (variance.sqrt() + 1e-8)
