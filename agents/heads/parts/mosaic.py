"""Observations as a picture: rows of them above each other."""

from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

SIDE = 84
"""Pixels of an observation's longer side, at least about so many."""
GAP = 2
"""Pixels between two of them."""


def mosaic(
    rows: Sequence[Shaped[Tensor, " count *shape"]], num_symbols: int = 0, num_frames: int = 1
) -> UInt8[Tensor, "height width 3"]:
    """Draws rows of observations.

    Args:
        rows: all of one shape.  A vector is a line.
        num_symbols: how many kinds of symbols they are made of, each a colour; 0: they are
            amounts, from the smallest of the first row (black) to its largest (white).
        num_frames: how many are stacked in the channels of an image; the newest is shown, in
            colours if it has three channels, else by its last one.
    """
    planes = torch.stack([_visible(row, num_frames) for row in rows])
    colours = _of_symbols(planes, num_symbols) if num_symbols else _of_amounts(planes)
    factor = max(1, SIDE // max(colours.shape[2:4]))
    large = colours.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    framed = F.pad(large, (0, 0, 0, GAP, 0, GAP), value=0.5)
    whole = torch.cat([torch.cat(row.unbind(), 1) for row in framed.unbind()])
    return (whole[:-GAP, :-GAP] * 255).round().to(torch.uint8)


def _visible(
    row: Shaped[Tensor, " count *shape"], num_frames: int
) -> Shaped[Tensor, " count height width *colour"]:
    match row.dim():
        case 4:
            has_colours = row.shape[1] == 3 * num_frames
            return row[:, -3:].permute(0, 2, 3, 1) if has_colours else row[:, -1]
        case 2:
            return row.unsqueeze(1)
    return row


def _of_amounts(
    planes: Float[Tensor, "rows count height width *colour"],
) -> Float[Tensor, "rows count height width 3"]:
    low, high = planes[0].amin(), planes[0].amax()
    scaled = ((planes - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return scaled if planes.dim() == 5 else scaled.unsqueeze(-1).expand(*planes.shape, 3)


def _of_symbols(
    planes: Shaped[Tensor, "rows count height width"], num_symbols: int
) -> Float[Tensor, "rows count height width 3"]:
    """Symbol 0 is dark, the others go around the circle of hues."""
    device = planes.device
    hue = torch.arange(num_symbols, device=device).unsqueeze(-1) / max(1, num_symbols - 1)
    phase = torch.tensor([0.0, 1 / 3, 2 / 3], device=device)
    palette = 0.5 + 0.5 * torch.cos(2 * pi * (hue - phase))
    palette[0] = 0.1
    return palette[planes.long()]
