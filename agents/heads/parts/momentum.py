"""Momentum copies: networks that follow another one slowly and are never trained.

Targets of self-supervised losses come from them, so that they move more slowly than what
is trained towards them (He et al. 2020, "Momentum Contrast", https://arxiv.org/abs/1911.05722;
Grill et al. 2020, BYOL, https://arxiv.org/abs/2006.07733).
"""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class MomentumCopy(nn.Module, Generic[NetworkT]):
    """theta' <- momentum * theta' + (1 - momentum) * theta, after every update.

    All numbers of the copy are buffers, so they are saved and moved with the module that
    holds it, and no optimizer and no gradient ever sees them.
    """

    def __init__(self, source: NetworkT, momentum: float) -> None:
        """Copies `source` as it is now.

        Args:
            source: what is followed; `follow` is given it again, and must be given that one.
            momentum: how much of itself the copy keeps; 0: it equals its source.
        """
        super().__init__()
        assert 0 <= momentum <= 1
        self.momentum = momentum
        self.network: NetworkT = frozen_copy(source)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the copied network computes, without gradient."""
        return self.network(*inputs)

    @torch.no_grad()
    def follow(self, source: NetworkT) -> None:
        """Moves towards `source` by 1 - momentum."""
        theirs = dict(source.named_parameters()) | dict(source.named_buffers())
        ours = dict(self.network.named_buffers())
        assert ours.keys() == theirs.keys()
        trained = [name for name, _ in source.named_parameters()]
        torch._foreach_lerp_(
            [ours[name] for name in trained],
            [theirs[name] for name in trained],
            1 - self.momentum,
        )
        for name in ours.keys() - set(trained):
            ours[name].copy_(theirs[name])


def frozen_copy(source: NetworkT) -> NetworkT:
    """Copies a network and turns its parameters into buffers of the same names."""
    network = copy.deepcopy(source).eval()
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return network
