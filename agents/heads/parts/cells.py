"""Observations cut into cells, and how much each of them changes.

The pseudo-rewards of pixel control (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397,
section 3.1), for images, and for windows and boards as well.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from envs.base import EnvSpec


class Cells:
    """How much each cell of the newest frame changes from one observation to the next.

    Symbols change or do not (0 or 1); amounts change by their difference, bytes in units of 255.
    A cell's change is the mean over its entries and, for colours or planes, over channels.
    """

    def __init__(self, spec: EnvSpec, cell: int, margin: int) -> None:
        """Divides observations of at least two dimensions.

        Args:
            spec: of the environment.
            cell: side of a cell, in pixels or other entries.
            margin: left out at every border.
        """
        self._cell, self._margin = cell, margin
        self._is_symbolic = spec.num_symbols > 0
        is_bytes = spec.observation_dtype == torch.uint8 and not self._is_symbolic
        self._scale = 1 / 255 if is_bytes else 1.0
        *channels, height, width = spec.observation_shape
        self._newest = channels[0] // spec.num_frames if channels else 0
        self.height, self.width = ((side - 2 * margin) // cell for side in (height, width))

    def change(self, observation: Shaped[Tensor, " N B *shape"]) -> Float[Tensor, "T B H W"]:
        """The change that every step brings to every cell."""
        frame = observation[:, :, -self._newest :] if self._newest else observation.unsqueeze(2)
        margin, cell = self._margin, self._cell
        rows, columns = self.height * cell, self.width * cell
        frame = frame[..., margin : margin + rows, margin : margin + columns].contiguous()
        after, before = frame[1:], frame[:-1]
        if self._is_symbolic:
            change = after != before
        else:
            # Of bytes, whose differences would not fit into bytes, without making floats of all.
            change = torch.maximum(after, before) - torch.minimum(after, before)
        # A dimension at a time, the inner ones last, is several times faster than all at once.
        total: Tensor = change.float().sum(2)
        total = total.unflatten(2, (self.height, cell)).sum(3)
        total = total.unflatten(3, (self.width, cell)).sum(4)
        return total * (self._scale / (change.shape[2] * cell * cell))
