"""Wrong teachers: what a teacher says, changed on purpose.

A study of gates needs teachers that are wrong in a known way.  The changes here are made to the
logits, so a run with a wrong teacher differs from one with the right teacher in nothing else.
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.runtime.random import Stream

_OTHER = {"LEFT": "RIGHT", "RIGHT": "LEFT"}


def mirrored(names: Sequence[str]) -> list[int] | None:
    """Finds the mirror image of every action: `UPLEFT` for `UPRIGHT`, `FIRE` for `FIRE`.

    Args:
        names: of the actions, in capitals and in their order.

    Returns:
        For every action the place of its mirror image, or None where an action has none, or all
        are their own.
    """
    images = [re.sub("LEFT|RIGHT", lambda side: _OTHER[side[0]], name) for name in names]
    if images == list(names) or not set(images) <= set(names):
        return None
    return [names.index(image) for image in images]


class WrongAnswers(nn.Module):
    """Exchanges actions in a teacher's logits, and deals some of its answers out at random.

    The random numbers are the head's own and saved with it, so a run that is resumed draws those
    that the whole run would have drawn.
    """

    order: Int[Tensor, " A"] | None

    def __init__(
        self, order: Sequence[int] | None, share: float = 0.0, stream: Stream | None = None
    ) -> None:
        """Takes over the stream.

        Args:
            order: for every action the action whose logit it gets; None: its own.
            share: of the states at which the logits are dealt out to the actions at random.
            stream: of random numbers, where the share is above 0.
        """
        super().__init__()
        places = None if order is None else torch.tensor(list(order))
        self.register_buffer("order", places, persistent=False)
        self._share = share
        self._stream = stream

    def forward(self, logits: Float[Tensor, "T B A"]) -> Float[Tensor, "T B A"]:
        """Changes what a teacher says of T steps in B environments."""
        if self.order is not None:
            logits = logits.index_select(-1, self.order)
        if self._stream is None:
            return logits
        # The ranks of independent numbers are a permutation, each equally likely.
        deal = self._stream.uniform(logits.shape, logits.device).argsort(-1)
        drawn = self._stream.uniform(logits.shape[:2], logits.device) < self._share
        return torch.where(drawn.unsqueeze(-1), logits.gather(-1, deal), logits)
