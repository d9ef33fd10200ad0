"""TensorBoard's event files, written at once: no thread, so a full disk is an `OSError` here."""

import io
import math
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto.event_pb2 import (  # type: ignore[attr-defined]
    Event,
    SessionLog,
)
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import custom_scalars, hparams, text

from agents.logs.terminal import RETURN_TAG, tag

PREFIX = "events.out.tfevents."


class EventFile:
    """One process's event file; TensorBoard reads all files of a folder as one run."""

    def __init__(
        self,
        folder: Path,
        description: Mapping[str, object],
        start_step: int = 0,
        charts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Begins a file, and cuts what earlier processes wrote beyond `start_step`.

        Args:
            folder: the run's.
            description: hyper-parameters, for the table and the HPARAMS tab of the run.
            start_step: agent steps at which this process begins.
            charts: metrics that the CUSTOM SCALARS tab shows together, by the chart's title.
        """
        earlier = sorted(folder.glob(f"{PREFIX}*"))
        files = [path for path in earlier if path.is_file()]
        self.notes = [
            f"{path.name} was damaged: its last {lost:,} bytes are dropped."
            for path in files
            if (lost := _cut(path, start_step))
        ]
        """A sentence on each earlier file that was damaged."""
        self._file = (folder / _file_name(earlier)).open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        if earlier:
            # For a TensorBoard that is running and has read what was cut.
            start = SessionLog(status=SessionLog.START)
            self._write(Event(session_log=start, step=start_step + 1))
        else:
            self._describe(description, charts or {})
        self._file.flush()

    def _describe(
        self, description: Mapping[str, object], charts: Mapping[str, Sequence[str]]
    ) -> None:
        # Torch takes True for the number 1.
        plain = {
            name: value if type(value) in (int, float) else _encodable(str(value))
            for name, value in description.items()
        }
        experiment, session, _ = hparams(plain, {RETURN_TAG: 0.0})
        rows = "\n".join(f"|{name}|{_escaped(value)}|" for name, value in plain.items())
        table = text("config", f"|option|value|\n|-|-|\n{rows}")
        # TensorBoard reads the tags of a chart as regular expressions.
        lines = {
            title: ["Multiline", [f"{re.escape(tag(name))}$" for name in names]]
            for title, names in charts.items()
        }
        layout = [custom_scalars({"charts": lines})] if charts else []
        for summary in (experiment, session, table, *layout):
            self._write(Event(summary=summary))

    def append(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes one log line through to the disk, without what was not measured."""
        values = [
            Summary.Value(tag=tag(name), simple_value=value)
            for name, value in numbers.items()
            if not math.isnan(value)
        ]
        self._write(Event(step=step, summary=Summary(value=values)))
        self._file.flush()

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Writes pictures through to the disk."""
        values = [
            Summary.Value(tag=tag(name), image=_encoded(picture))
            for name, picture in pictures.items()
        ]
        self._write(Event(step=step, summary=Summary(value=values)))
        self._file.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _file_name(earlier: Sequence[Path]) -> str:
    """Names a new event file by time, host and process, as TensorFlow does.

    Readers such as Weights & Biases look for this form.  TensorBoard reads the files of a folder
    in the order of their names: the time is therefore above those of all earlier files.  (Earlier
    versions only numbered them: `0000` comes before every time.)
    """
    times = [path.name.removeprefix(PREFIX).partition(".")[0] for path in earlier]
    latest = max((int(word) for word in times if word.isdecimal()), default=0)
    now = max(int(time.time()), latest + 1)
    return f"{PREFIX}{now}.{socket.gethostname()}.{os.getpid()}.0"


def _encoded(picture: UInt8[np.ndarray, "_ _ 3"]) -> Summary.Image:
    height, width, _ = picture.shape
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=file.getvalue()
    )


def _encodable(value: str) -> str:
    """A path may hold bytes that the system's encoding does not know."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _escaped(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _cut(path: Path, last_step: int) -> int:
    """Shortens an event file to its whole records up to `last_step`.

    A record is its length (8 bytes), a checksum (4), the event, another checksum (4).

    Returns:
        How many bytes were dropped because they are damaged: TensorBoard reads no further either.
    """
    content = path.read_bytes()
    end = damaged = 0
    while end < len(content):
        step, after = _record(content, end)
        if step is None:
            damaged = len(content) - end
        if step is None or step > last_step:
            break
        end = after
    if end < len(content):
        os.truncate(path, end)
    return damaged


def _record(content: bytes, start: int) -> tuple[int | None, int]:
    """The step of the record that begins at `start`, None if it is damaged, and where it ends."""
    header = content[start : start + 8]
    if len(header) < 8 or content[start + 8 : start + 12] != _checksum(header):
        return None, start
    end = start + 12 + int.from_bytes(header, "little")
    event = content[start + 12 : end]
    if content[end : end + 4] != _checksum(event):
        return None, start
    try:
        return int(Event.FromString(event).step), end + 4
    except DecodeError:
        return None, start


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


CELL, MARGIN, FONT_SIZE = 64, 8, 16
"""Side of a cell, width of the margin and height of the letters, in pixels."""
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
    """Draws a name that is read from below, as wide as a cell."""
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
