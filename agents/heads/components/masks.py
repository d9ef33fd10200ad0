"""A teacher that sees less: the same places of every observation are hidden from it."""

from dataclasses import replace
from math import prod

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from agents.heads.components.views import UNKNOWN, is_image
from agents.trajectory import Trajectory
from envs.base import EnvSpec

PATCHES = 8
"""Along each side of an image; a patch of an Atari screen is 10 or 11 pixels wide."""


class FixedMask(nn.Module):
    """Hides a share of the places of observations, drawn once: amounts become 0, symbols unknown.

    A place is an entry of a vector; a cell of a board or of a gridworld, with all its channels; a
    patch of an image, with all its channels and frames.
    """

    hidden: Bool[Tensor, " *place"]
    """Of the last two axes of an observation, or of a vector's only one; saved with the head."""

    def __init__(self, share: float, spec: EnvSpec) -> None:
        """Draws the places from the global generator, as initial weights are drawn.

        Args:
            share: of the places that are hidden, above 0; rounded, but at least one place is.
            spec: of the observations.
        """
        super().__init__()
        sides = spec.observation_shape[-2:]
        cuts = [min(PATCHES, side) for side in sides] if is_image(spec) else list(sides)
        places = prod(cuts)
        hidden = torch.randperm(places) < max(1, round(share * places))
        hidden = hidden.view(cuts)
        for axis, (side, cut) in enumerate(zip(sides, cuts, strict=True)):
            hidden = hidden.index_select(axis, torch.arange(side) * cut // side)
        self.register_buffer("hidden", hidden)
        self._value = UNKNOWN if spec.num_symbols else 0

    def forward(self, trajectory: Trajectory) -> Trajectory:
        """Returns the trajectory as the teacher sees it."""
        observation = trajectory.observation.masked_fill(self.hidden, self._value)
        return replace(trajectory, observation=observation)
