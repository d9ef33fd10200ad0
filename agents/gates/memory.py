"""Memory of a gate: a buffer that starts empty and takes its shape from what it first meets."""

import torch
from torch import Tensor


def recall(memory: Tensor, like: Tensor, fill: float = 0.0) -> Tensor:
    """Returns `memory`, made at its first use, on the device and in the dtype of `like`.

    It is the same tensor from then on, unless it was moved or narrowed together with the model
    around it, so that it can be written in place: a captured graph goes on reading the same
    memory.

    Args:
        memory: a buffer; empty before its first use.
        like: has the shape that is needed.
        fill: what every entry starts as.

    Raises:
        ValueError: if there is memory of another shape.
    """
    if memory.numel() == 0:
        return torch.full_like(like, fill)
    if memory.shape != like.shape:
        raise ValueError(
            f"the gate remembers numbers of shape {list(memory.shape)}, not {list(like.shape)}: "
            "give every set of losses and parameters a gate of its own."
        )
    if memory.device != like.device or memory.dtype != like.dtype:
        return memory.to(like.device, like.dtype)
    return memory
