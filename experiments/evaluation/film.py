"""Films one episode: plays it, enlarges and captions its pictures, encodes them as GIF or MP4.

Enlarging repeats pixels without smoothing, so that a game looks as it is.  Pillow writes a GIF
picture by picture, each with its own palette and only the pixels that changed; PyAV, an optional
dependency, writes an MP4 (H.264).
"""

import io
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont

from agents.logs.tracking import continued
from agents.networks.actor_critic import NotFiniteError
from agents.rollout.evaluation import Moment, watch
from agents.runtime.checkpoint import write_atomically
from agents.runtime.random import generator
from configs.errors import UsageError
from configs.programs import EvaluateOptions
from envs.base import PictureError
from experiments.evaluation.players import as_trained, check_writable, load_player
from experiments.training.hardware import Hardware

MOST_HIGH, MOST_WIDE, LEAST_WIDE = 640, 1280, 320
"""Pixels of the enlarged picture; the caption needs some width."""
BAR, MARGIN, GAP = 36, 10, 18
"""Pixels: the caption's height, its distance from the border, the gap between its texts."""
FONT_SIZES = range(22, 9, -1)
BACKGROUND, BRIGHT, DIM = (18, 18, 18), (255, 255, 255), (170, 170, 170)
WIDEST = ("score -8,888,888", "step 888,888")
"""Space for these texts is reserved, so that nothing moves when numbers grow."""

HOLD = 1.0
"""Seconds for which the last picture stays."""
GIF_RATE = 15
"""Pictures a second at most: browsers slow down what is much faster."""

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

Encoder = Callable[[Iterable[UInt8[np.ndarray, "H W 3"]], float], bytes]
"""From pictures and how many of them a second shows to the content of a file."""


class Screen:
    """Enlarges pictures of one size and writes title, score and step above them."""

    def __init__(self, title: str, height: int, width: int) -> None:
        """Lays out the screen.

        Args:
            title: what is played.
            height: of every picture.
            width: of every picture.
        """
        self._factor = max(1, min(MOST_HIGH // height, MOST_WIDE // width))
        wide = width * self._factor
        # H.264 halves the resolution of colours, hence even numbers.
        self._width = _even(max(wide, LEAST_WIDE))
        self._height = _even(BAR + height * self._factor)
        self._left = (self._width - wide) // 2
        room = self._width - 2 * MARGIN - 2 * GAP
        self._font = _fit(title, room)
        self._step_at = self._width - MARGIN - _length(self._font, WIDEST[1])
        self._score_at = self._step_at - GAP - _length(self._font, WIDEST[0])
        self._title = _shortened(title, self._font, self._score_at - GAP - MARGIN)

    def show(
        self, picture: UInt8[np.ndarray, "H W 3"], score: float, step: int
    ) -> UInt8[np.ndarray, "H2 W2 3"]:
        """Makes one picture of the film.

        Args:
            picture: of the game.
            score: so far.
            step: agent steps so far.
        """
        screen = Image.new("RGB", (self._width, self._height), BACKGROUND)
        draw = ImageDraw.Draw(screen)
        for place, text, colour in (
            (MARGIN, self._title, BRIGHT),
            (self._score_at, f"score {points(score)}", BRIGHT),
            (self._step_at, f"step {step:,}", DIM),
        ):
            draw.text((place, BAR // 2), text, colour, self._font, anchor="lm")
        image = Image.fromarray(picture)
        size = (image.width * self._factor, image.height * self._factor)
        screen.paste(image.resize(size, Image.Resampling.NEAREST), (self._left, BAR))
        return np.asarray(screen)


def points(score: float) -> str:
    """Formats a score, without decimals if it is whole."""
    return f"{score:,.0f}" if score.is_integer() else f"{score:,.2f}"


def find_encoder(path: Path) -> Encoder:
    """The encoder for a film's file, by its ending.

    Raises:
        ValueError: there is none for this ending, or PyAV is not installed.
    """
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise ValueError("a film's name ends in .mp4 or .gif")
    if encoder is mp4 and find_spec("av") is None:
        raise ValueError("an MP4 needs PyAV: pip install 'auxgate[video]', or write a .gif")
    return encoder


def mp4(pictures: Iterable[UInt8[np.ndarray, "H W 3"]], rate: float) -> bytes:
    """Encodes H.264 that browsers play, `rate` pictures a second."""
    import av

    film = io.BytesIO()
    playing = iter(pictures)
    first = last = next(playing)
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream("libx264", Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = first.shape[:2]
        # What every player takes; the finer yuv444p is refused by some.
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"}
        for last in chain([first], playing):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(last, format="rgb24")))
        for held in repeat(last, round(HOLD * rate)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(held, format="rgb24")))
        container.mux(stream.encode(None))
    return film.getvalue()


def gif(pictures: Iterable[UInt8[np.ndarray, "H W 3"]], rate: float) -> bytes:
    """Encodes a GIF that repeats for ever, at true speed with at most `GIF_RATE` pictures a second.

    One picture at a time: Pillow's own writer of films keeps all of them in memory.
    """
    playing = _thinned(pictures, rate)
    since, shown = next(playing)
    start, changed = since, np.ones(shown.shape[:2], dtype=np.bool_)
    film = io.BytesIO()
    film.write(_gif_header(shown))
    for start, picture in playing:
        differs = _differs(picture, shown)
        if differs.any():
            film.write(_gif_frame(shown, changed, start - since))
            since, shown, changed = start, picture, differs
    film.write(_gif_frame(shown, changed, start - since + round(100 * HOLD)))
    film.write(b";")
    return film.getvalue()


ENCODERS: dict[str, Encoder] = {".mp4": mp4, ".gif": gif}


def _thinned(
    pictures: Iterable[UInt8[np.ndarray, "H W 3"]], rate: float
) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """The pictures that a GIF shows, with their times in hundredths of a second.

    The last picture is always among them.
    """
    every = max(1, math.ceil(rate / GIF_RATE))
    left_out = None
    for index, picture in enumerate(pictures):
        at = round(100 * index / rate)
        left_out = (at, picture) if index % every else None
        if left_out is None:
            yield at, picture
    if left_out is not None:
        yield left_out


def _gif_header(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    height, width = picture.shape[:2]
    # No global palette; then the extension that makes a GIF repeat without end.
    return struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x70, 0, 0) + (
        b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    )


def _differs(
    picture: UInt8[np.ndarray, "H W 3"], before: UInt8[np.ndarray, "H W 3"]
) -> Bool[np.ndarray, "H W"]:
    """Which pixels have changed."""
    red, green, blue = np.moveaxis(picture != before, -1, 0)
    changed: Bool[np.ndarray, "H W"] = red | green | blue
    return changed


def _gif_frame(
    picture: UInt8[np.ndarray, "H W 3"], changed: Bool[np.ndarray, "H W"], hundredths: int
) -> bytes:
    """Encodes the pixels that changed; the others are transparent."""
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    # Up to 255 colours are exact; the last entry of the palette is transparent.
    colours = Image.fromarray(picture[changed][None]).quantize(255, dither=Image.Dither.NONE)
    indices = np.asarray(colours)[0]
    none = int(indices.max()) + 1
    pixels = np.full(picture.shape[:2], none, dtype=np.uint8)
    pixels[changed] = indices
    image = Image.fromarray(pixels[part]).convert("P")
    image.putpalette([*(colours.getpalette() or [])[: 3 * none], 0, 0, 0])
    blocks = GifImagePlugin.getdata(
        image,
        (int(columns[0]), int(rows[0])),
        duration=10 * hundredths,  # in milliseconds
        transparency=none,
        disposal=1,
        include_color_table=True,
    )
    return b"".join(blocks)


def _even(length: int) -> int:
    return length + length % 2


def _fit(title: str, room: int) -> _Font:
    """The largest font in which the caption fits, or else the smallest there is."""
    fonts = [ImageFont.load_default(size) for size in FONT_SIZES]
    return next((font for font in fonts if _length(font, title, *WIDEST) <= room), fonts[-1])


def _length(font: _Font, *texts: str) -> int:
    return sum(math.ceil(font.getlength(text)) for text in texts)


def _shortened(text: str, font: _Font, room: int) -> str:
    """Cuts the text to the width there is."""
    cuts = (text, *(f"{text[:end]}..." for end in range(len(text) - 1, 0, -1)))
    return next((cut for cut in cuts if _length(font, cut) <= room), "")


class Episode:
    """The pictures of an episode, made while it is played; `str` tells what has happened so far."""

    def __init__(self, moments: Iterator[Moment], title: str, most_steps: int) -> None:
        """Plays nothing yet.

        Args:
            moments: of the episode.
            title: what is played.
            most_steps: agent steps after which to stop.
        """
        self._moments, self._title, self._most_steps = moments, title, most_steps
        self.latest = next(moments)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Plays the episode and yields the film's pictures as they are made.

        Raises:
            PictureError: the pictures change in size.
        """
        height, width = self.latest.picture.shape[:2]
        screen = Screen(self._title, height, width)
        while True:
            now = self.latest
            if now.picture.shape[:2] != (height, width):
                raise PictureError(
                    f"{self._title} cannot be filmed: its pictures change in size, from "
                    f"{height} x {width} to {' x '.join(map(str, now.picture.shape[:2]))}."
                )
            yield screen.show(now.picture, now.score, now.step)
            if now.ended or now.step == self._most_steps:
                return
            self.latest = next(self._moments)

    def __str__(self) -> str:
        """What has happened so far."""
        steps, score = f"{self.latest.step:,}", points(self.latest.score)
        if self.latest.ended:
            return f"{self._title}: an episode of {steps} steps, score {score}"
        return f"{self._title}: the first {steps} steps of an episode, score {score} so far"


def check_film(options: EvaluateOptions) -> None:
    """Refuses a film that could not be written, before anything is played.

    Raises:
        UsageError: the file's kind is unknown, or its folder cannot be written.
    """
    path = Path(options.video)
    try:
        find_encoder(path)
    except ValueError as error:
        raise UsageError(f"--video {path}: {error}.") from error
    check_writable(path, "--video FILE")


def film(options: EvaluateOptions, hardware: Hardware) -> str:
    """Films one episode and writes the film.

    Args:
        options: with one run and the film's file.
        hardware: what the policy computes on.

    Returns:
        A sentence on the episode.

    Raises:
        UsageError: the policy cannot be played, or its environment cannot be drawn.
    """
    (run,) = options.runs
    hardware = as_trained(run, options, hardware)
    player = load_player(run, hardware, render=True, policy=options.policy, env=options.env)
    env = player.build(1, options.seed, hardware, render=True)
    path = Path(options.video)
    try:
        moments = watch(env, player.agent, generator(options.seed, "film", env.device))
        try:
            episode = Episode(moments, env.spec.name, options.video_steps)
        except ValueError as error:
            raise PictureError(str(error)) from error
        with player.agent.frozen():
            content = find_encoder(path)(episode, env.spec.steps_per_second)
    except (PictureError, NotImplementedError) as error:
        raise UsageError(f"--video: {str(error).rstrip('.')}.") from error
    except NotFiniteError as error:
        raise UsageError(f"{run} cannot be played: {error}.") from error
    finally:
        env.close()
    write_atomically(path, content)
    with continued(Path(run), print) as trackers:
        trackers.film(player.card.steps, path)
    return f"{episode}."
