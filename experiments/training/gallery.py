"""What a run can be looked at by: the cosines among its losses, the pictures of its heads."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from agents.heads import AuxiliaryHead
from agents.learning.learner import Learner
from agents.logs.heatmap import heatmap
from agents.trajectory import Trajectory

COSINES = "cosines"
"""Of all losses, where there are several auxiliaries."""


class Gallery:
    """Keeps what the next pictures will be made of."""

    def __init__(self) -> None:
        self._latest: Trajectory | None = None

    def keep(self, learner: Learner, trajectory: Trajectory) -> None:
        """Remembers the latest trajectory if a head draws: else its memory is free again."""
        if any(map(_draws, learner.heads.children())):
            self._latest = trajectory

    @torch.no_grad()
    def draw(self, learner: Learner) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
        """Draws what there is to see, by name; waits for the device."""
        pictures = {}
        cosines = learner.gating.cosines.drain()
        if cosines is not None:
            names = ["main", *learner.heads]
            pictures[COSINES] = heatmap(names, cosines.float().cpu().numpy())
        if self._latest is not None:
            for name, head in learner.heads.items():
                assert isinstance(head, AuxiliaryHead)
                picture = head.picture(learner.agent, self._latest)
                if picture is not None:
                    pictures[f"{name}/picture"] = picture.cpu().numpy()
        return pictures


def _draws(head: nn.Module) -> bool:
    """Whether a head has a way of its own to draw."""
    assert isinstance(head, AuxiliaryHead)
    return type(head).picture is not AuxiliaryHead.picture
