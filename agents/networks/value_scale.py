"""Values in units of their own spread, so that rewards of any size give gradients of one size.

Van Hasselt, Guez, Hessel, Mnih, Silver 2016, "Learning values across many orders of magnitude"
(https://arxiv.org/abs/1602.07714), called PopArt; Hessel et al. 2019, "Multi-task Deep
Reinforcement Learning with PopArt" (https://arxiv.org/abs/1809.04474).
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 0.01
"""The scale is at least this part of the targets' root mean square, for returns without spread."""


class ValueScale(nn.Module):
    """Mean and standard deviation of the returns, by which a value layer's output is scaled.

        V(x) = scale * n(x) + mean,    n the output of a linear layer

    `observe` takes notice of new value targets, `adopt` moves to the new mean and scale and
    changes the layer so that V stays the same for every x. Losses are divided by `unit`, the
    scale that includes the latest targets: the squared error by its square, advantages by itself.

    Before the first target that is not zero the scale is 0, and so is V.

    Departures from the papers: moving averages are corrected for their start, as in Adam, and
    the scale is bounded relative to the targets, so that multiplying all rewards by a constant
    changes nothing else.
    """

    mean: Tensor
    scale: Tensor
    moments: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        """Starts switched off: values are the layer's output.

        Args:
            decay: of the moving averages, per minibatch.
        """
        super().__init__()
        self.decay = decay
        self.on = False
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("moments", torch.zeros(2))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, normalised: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Turns a layer's output into values."""
        return torch.addcmul(self.mean, self.scale, normalised) if self.on else normalised

    @property
    def current(self) -> Float[Tensor, ""]:
        """The scale of the values as they are now; 1 where it is switched off."""
        return self.scale.clone() if self.on else torch.ones_like(self.scale)

    @property
    def unit(self) -> Float[Tensor, ""]:
        """The scale after the latest observation, in which losses are measured; 1 if unknown."""
        _, scale = self._latest()
        return torch.where(scale > 0, scale, 1.0) if self.on else torch.ones_like(scale)

    @torch.no_grad()
    def observe(self, mean: Float[Tensor, ""], mean_square: Float[Tensor, ""]) -> None:
        """Takes notice of value targets, unless they are not finite: such an update is skipped.

        Args:
            mean: of the valid targets of all processes.
            mean_square: of the same.
        """
        if self.on:
            latest = torch.stack([mean, mean_square])
            sound = latest.isfinite().all()
            self.moments.lerp_(torch.where(sound, latest, self.moments), 1 - self.decay)
            self.weight.lerp_(torch.where(sound, 1.0, self.weight), 1 - self.decay)

    @torch.no_grad()
    def adopt(self, layers: Iterable[nn.Linear]) -> None:
        """Moves to the latest mean and scale, and keeps the values of the layers as they are."""
        if not self.on:
            return
        mean, scale = self._latest()
        known = self.scale > 0
        divisor = torch.where(scale > 0, scale, 1.0)
        ratio = torch.where(known, self.scale / divisor, 1.0)
        for layer in layers:
            layer.weight.mul_(ratio)
            moved = (self.scale * layer.bias + self.mean - mean) / divisor
            layer.bias.copy_(torch.where(known, moved, layer.bias))
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def _latest(self) -> tuple[Tensor, Tensor]:
        mean, square = (self.moments / self.weight.clamp(min=1e-8)).unbind()
        spread = (square - mean.square()).clamp(min=0.0).sqrt()
        return mean, torch.maximum(spread, LEAST * square.clamp(min=0.0).sqrt())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # Checkpoints from before there was a scale have none.
        for name, buffer in self.named_buffers():
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
