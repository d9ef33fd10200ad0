"""Features multiplied by a block-diagonal rotation, and a rotation folded into a layer."""

import torch
from jaxtyping import Float
from torch import Tensor


def rotate(
    features: Float[Tensor, " *batch F"], matrix: Float[Tensor, "G D D"]
) -> Float[Tensor, " *batch F"]:
    """Multiplies the features by a matrix of blocks on a diagonal; those left over stay."""
    num_blocks, size = matrix.shape[:2]
    blocks, rest = features.split(
        [num_blocks * size, features.shape[-1] - num_blocks * size], dim=-1
    )
    blocks = blocks.unflatten(-1, (num_blocks, size))
    turned = torch.einsum("gij,...gj->...gi", matrix, blocks).flatten(-2)
    return torch.cat([turned, rest], dim=-1)


def folded(weight: Float[Tensor, "A F"], matrix: Float[Tensor, "G D D"]) -> Float[Tensor, "A F"]:
    """The weight of a linear layer that does to features what `weight` does to rotated ones."""
    # W (R z) = (W R) z, and row by row W R = (R^T W^T)^T.
    return rotate(weight, matrix.mT)
