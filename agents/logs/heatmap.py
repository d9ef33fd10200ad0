"""A matrix of cosines as a picture for people."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

CELL, MARGIN, FONT_SIZE = 64, 8, 16
"""Pixels."""
# Vermilion against, blue along: told apart with any colour vision (Okabe and Ito).
AGAINST, NEITHER, ALONG = (213, 94, 0), (255, 255, 255), (0, 114, 178)
UNKNOWN, INK, PAPER = (190, 190, 190), (0, 0, 0), (255, 255, 255)


def heatmap(
    names: Sequence[str], cosines: Float[np.ndarray, "L L"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a matrix of numbers from -1 to 1, with its rows and columns named.

    Args:
        names: of the losses.
        cosines: of each with each; NaN is drawn grey.
    """
    font = ImageFont.load_default(FONT_SIZE)
    room = math.ceil(max(font.getlength(name) for name in names)) + 2 * MARGIN
    side = room + CELL * len(names)
    image = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(image)
    for index, name in enumerate(names):
        middle = room + CELL * index + CELL // 2
        draw.text((room - MARGIN, middle), name, INK, font, anchor="rm")
        image.paste(_upright(name, font, room - MARGIN), (middle - CELL // 2, 0))
    for row, values in enumerate(cosines):
        for column, value in enumerate(values):
            left, top = room + CELL * column, room + CELL * row
            draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), _colour(float(value)))
            if not math.isnan(value):
                spot = (left + CELL // 2, top + CELL // 2)
                ink = PAPER if abs(value) > 0.6 else INK
                draw.text(spot, f"{value:+.2f}", ink, font, anchor="mm")
    return np.asarray(image)


def _upright(
    name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: int
) -> Image.Image:
    """A name that is read from below, as wide as a cell."""
    label = Image.new("RGB", (room, CELL), PAPER)
    ImageDraw.Draw(label).text((0, CELL // 2), name, INK, font, anchor="lm")
    return label.transpose(Image.Transpose.ROTATE_90)


def _colour(value: float) -> tuple[int, int, int]:
    if math.isnan(value):
        return UNKNOWN
    end = ALONG if value > 0 else AGAINST
    share = min(1.0, abs(value))
    red, green, blue = (
        round(far * share + near * (1 - share)) for far, near in zip(end, NEITHER, strict=True)
    )
    return red, green, blue
