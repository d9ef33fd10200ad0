"""Cuts a network in two: losses above, the network below, gradients handed down by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Cut:
    """Tensors of a network, and leaves of the same values that losses may hang on.

    Gradients of losses stop at the leaves, where a gate can weigh them as it weighs those of
    parameters; `backward` takes what it leaves there through the network, once for all losses.

    With several processes every leaf has a place for each of them, of which this one fills its
    own: rows of gradients that are added up over the processes are then side by side.
    """

    def __init__(self, sources: Sequence[Tensor], rank: int = 0, size: int = 1) -> None:
        """Cuts.

        Args:
            sources: tensors in the graph of the network.
            rank: of this process.
            size: how many processes there are.
        """
        self.leaves: tuple[Tensor, ...] = tuple(
            source.new_zeros(size, *source.shape).requires_grad_() for source in sources
        )
        with torch.no_grad():
            for leaf, source in zip(self.leaves, sources, strict=True):
                leaf[rank].copy_(source)
        self.pieces: tuple[Tensor, ...] = tuple(leaf[rank] for leaf in self.leaves)
        self._sources = tuple(sources)
        self._rank = rank

    def backward(self) -> None:
        """Hands the gradients at the leaves down, and frees the graph below."""
        gradients = [None if leaf.grad is None else leaf.grad[self._rank] for leaf in self.leaves]
        reached = [index for index, gradient in enumerate(gradients) if gradient is not None]
        torch.autograd.backward(
            [self._sources[index] for index in reached], [gradients[index] for index in reached]
        )
