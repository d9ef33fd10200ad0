"""What agents see of a Gymnasium observation: one array per environment, whatever its space.

`encoding_of` decides from the space, before the first step:

- An array of bytes (uint8 up to 255, or whole numbers 0..255 of rank 2 or more) stays uint8, which
  every torso divides by 255.  Everything else becomes float32.
- A picture has its channels first, `[C, H, W]`.  Every array of rank 3 is one; one of rank 2 if it
  holds bytes, or amounts from 0 to 1 or 255 on at least 7 x 7 places; one of rank 4 if it stacks
  such pictures along its first axis.  Amounts from 0 to 255 are divided by 255.
- Finite sets (Discrete, MultiDiscrete) become one-hot vectors, and MultiBinary zeros and ones.
- Of a dictionary or a tuple the only picture is seen; without a picture, all its entries that are
  arrays or finite sets are joined into one vector.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Shaped

from gridworld.options import OptionError, mention

BYTE = 255
LEAST_SIDE = 7
"""Height and width from which on amounts without a channel axis are taken for a picture."""
MOST_CHANNELS = 4
"""Channels of one picture (red, green, blue, alpha) in a stack of pictures."""
LONGEST = 100_000
"""Entries of a one-hot vector: more would fill the memory with zeros."""

Encoder = Callable[[Any], Shaped[np.ndarray, " B *shape"]]
"""From B observations, batched as Gymnasium does it, to what is seen of them."""


@dataclass(frozen=True)
class Encoding:
    """What is seen of an observation."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    encode: Encoder
    num_frames: int = 1
    """How many frames the channels of a picture hold."""
    is_picture: bool = False
    note: str = ""
    """A sentence on what was chosen, where there was a choice."""


def encoding_of(name: str, space: Any, key: str = "", raw: bool = False) -> Encoding:
    """Decides what is seen of an observation.

    Args:
        name: of the environment, for errors.
        space: of one observation.
        key: the entry of a dictionary or a tuple to see; empty to leave it to the rule.
        raw: see arrays as versions before this rule did: only bytes of rank 3 are pictures, and
            all other arrays are float32 in the shape they have.

    Raises:
        ValueError: nothing in it can be seen, or the key names no entry.
    """
    match space:
        case spaces.Dict() | spaces.Tuple():
            return _encoding_of_entries(name, _entries(space), key, raw)
    if key:
        key = f"{mention('observation_key')} {key}"
        raise OptionError("", f"{name} observes no dictionary: drop {key}.")
    encoding = _single(space, raw)
    if encoding is None:
        raise ValueError(
            f"{name} observes {_kind(space)}; only arrays (Box) that are not empty, finite sets "
            f"(Discrete, MultiDiscrete) of at most {LONGEST:,} members, MultiBinary, and "
            "dictionaries and tuples of them are supported."
        )
    return encoding


def _kind(space: Any) -> str:
    """A space in a word or two."""
    if isinstance(space, spaces.Box) and 0 in space.shape:
        return f"an empty array of shape {space.shape}"
    return str(space) if isinstance(space, spaces.Discrete) else type(space).__name__


Path = tuple[Any, ...]
"""Keys and indices that lead to an entry."""


def _entries(space: Any, path: Path = ()) -> dict[Path, Any]:
    """The spaces within a dictionary or a tuple, and within those in it."""
    inner: dict[Any, Any]
    match space:
        case spaces.Dict():
            inner = dict(space.items())
        case spaces.Tuple():
            inner = dict(enumerate(space.spaces))
        case _:
            return {path: space}
    found: dict[Path, Any] = {}
    for key, entry in inner.items():
        found |= _entries(entry, (*path, key))
    return found


def _encoding_of_entries(name: str, entries: Mapping[Path, Any], key: str, raw: bool) -> Encoding:
    listed = {".".join(map(str, path)): path for path in entries}
    seen = {entry: _single(entries[path], raw) for entry, path in listed.items()}
    usable = {entry: encoding for entry, encoding in seen.items() if encoding is not None}
    every = ", ".join(f"{entry} ({_kind(entries[path])})" for entry, path in listed.items())
    if not usable:
        raise ValueError(
            f"{name} observes a dictionary in which nothing can be learnt from: "
            f"{every or 'it has no entries'}."
        )
    if key and key not in usable:
        raise OptionError(
            "observation_key",
            f"{key} is no entry that can be learnt from in {name}, which observes {every}: choose "
            f"one of {', '.join(usable)}, or drop it.",
        )
    pictures = [entry for entry, encoding in usable.items() if encoding.is_picture]
    if len(pictures) > 1 and not key:
        raise OptionError(
            "",
            f"{name} observes several pictures: set {mention('observation_key')} to one of "
            f"{', '.join(usable)}.",
        )
    chosen = [key] if key else pictures or list(usable)
    left_out = [entry for entry in listed if entry not in chosen]
    seen_and_not = f"{', '.join(chosen)} of each observation, and not {', '.join(left_out)}"
    note = f"The agent sees {seen_and_not}." if left_out else ""
    encoders = [_within(listed[entry], usable[entry].encode) for entry in chosen]
    if len(chosen) == 1:
        encoding = usable[chosen[0]]
        return Encoding(
            encoding.shape,
            encoding.dtype,
            encoders[0],
            encoding.num_frames,
            encoding.is_picture,
            note,
        )
    bytes_ = [usable[entry].dtype == torch.uint8 for entry in chosen]

    def encode(batch: Any) -> Shaped[np.ndarray, "B F"]:
        parts = [_flat(encoder(batch)) for encoder in encoders]
        scaled = [
            part / BYTE if is_bytes else part for part, is_bytes in zip(parts, bytes_, strict=True)
        ]
        return np.concatenate(scaled, axis=1, dtype=np.float32)

    length = sum(math.prod(usable[entry].shape) for entry in chosen)
    return Encoding((length,), torch.float32, encode, note=note)


def _within(path: Path, encode: Encoder) -> Encoder:
    """An encoder of the whole observation from one of an entry."""

    def encode_entry(batch: Any) -> Shaped[np.ndarray, " B *shape"]:
        for key in path:
            batch = batch[key]
        return encode(batch)

    return encode_entry


def _flat(array: Shaped[np.ndarray, " B *shape"]) -> Shaped[np.ndarray, "B F"]:
    return array.reshape(len(array), -1)


def _single(space: Any, raw: bool) -> Encoding | None:
    """The encoding of a space that holds no others; none where it cannot be seen."""
    match space:
        case spaces.Box() if 0 not in space.shape:
            if raw:
                return _raw(space)
            return _array(space.shape, space.dtype, float(space.low.min()), float(space.high.max()))
        case spaces.MultiBinary() if 0 not in space.shape:
            return _array(space.shape, np.dtype(np.int8), 0.0, 1.0)
        case spaces.Discrete():
            return _one_hot([int(space.n)], [int(space.start)])
        case spaces.MultiDiscrete() if 0 not in space.shape:
            return _one_hot(space.nvec.flatten().tolist(), space.start.flatten().tolist())
    return None


def _one_hot(sizes: list[int], starts: list[int]) -> Encoding | None:
    length = sum(sizes)
    if length > LONGEST:
        return None
    # The place of each set's first member in the vector.
    first = np.cumsum([0, *sizes[:-1]]) - np.asarray(starts)

    def encode(batch: Any) -> Shaped[np.ndarray, "B F"]:
        chosen = _flat(np.asarray(batch, dtype=np.int64)) + first
        hot = np.zeros((len(chosen), length), dtype=np.float32)
        np.put_along_axis(hot, chosen, 1, axis=1)
        return hot

    return Encoding((length,), torch.float32, encode)


def _raw(space: spaces.Box) -> Encoding:
    """Arrays as earlier versions saw them, for the policies that they trained."""
    shape = tuple(space.shape)
    if space.dtype == np.uint8 and len(shape) == 3:
        last = shape[-1] <= shape[0]
        axes = (2, 0, 1) if last else (0, 1, 2)
        return _picture(shape, axes, np.uint8, num_frames=1 if last else shape[0])
    return _numbers(shape)


def _array(shape: tuple[int, ...], dtype: Any, low: float, high: float) -> Encoding:
    """The encoding of an array with entries from `low` to `high`."""
    is_whole = np.issubdtype(dtype, np.integer)
    is_bytes = high == BYTE and low >= 0 and (dtype == np.uint8 or (is_whole and len(shape) > 1))
    is_bounded = low == 0 and high in (1, BYTE)
    kind: Any = np.uint8 if is_bytes else np.float32
    scale = 1 / BYTE if is_bounded and high == BYTE and not is_bytes else 1.0
    match shape:
        case (height, width) if is_bytes or (is_bounded and min(height, width) >= LEAST_SIDE):
            return _picture((1, height, width), (0, 1, 2), kind, scale)
        case (_, _, _):
            last = _channels_are_last(shape)
            # Stacked grey frames come with channels first; three channels are colours.
            frames = 1 if last or not is_bytes or shape[0] == 3 else shape[0]
            return _picture(shape, (2, 0, 1) if last else (0, 1, 2), kind, scale, frames)
        case (frames, _, _, channels) if is_bounded and channels <= MOST_CHANNELS:
            return _picture(shape, (0, 3, 1, 2), kind, scale, frames)
        case (frames, channels, _, _) if is_bounded and channels <= MOST_CHANNELS:
            return _picture(shape, (0, 1, 2, 3), kind, scale, frames)
    return _numbers(shape, kind)


def _channels_are_last(shape: tuple[int, ...]) -> bool:
    """Whether a picture's channels are its last axis: two equal sides are height and width."""
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return first == middle
    return last <= first


def _picture(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    kind: Any,
    scale: float = 1.0,
    num_frames: int = 1,
) -> Encoding:
    """A picture, or a stack of pictures that becomes one of more channels.

    Args:
        shape: of the array, with a channel axis.
        axes: its axes in the order frames, channels, height, width; frames may be missing.
        kind: of its entries when they are seen.
        scale: by which they are multiplied.
        num_frames: how many of them the channels hold.
    """
    *channels, height, width = (shape[axis] for axis in axes)
    seen = (math.prod(channels), height, width)

    def encode(batch: Any) -> Shaped[np.ndarray, "B C H W"]:
        array = np.asarray(batch).reshape(-1, *shape).astype(kind, copy=False)
        moved = array.transpose(0, *(axis + 1 for axis in axes))
        picture = np.ascontiguousarray(moved).reshape(-1, *seen)
        return picture if scale == 1 else picture * np.float32(scale)

    return Encoding(seen, _torch(kind), encode, num_frames, is_picture=True)


def _numbers(shape: tuple[int, ...], kind: Any = np.float32) -> Encoding:
    """An array in its own shape; a single number becomes a vector of one."""
    seen = shape or (1,)

    def encode(batch: Any) -> Shaped[np.ndarray, " B *shape"]:
        array = np.asarray(batch).astype(kind, copy=False)
        return np.ascontiguousarray(array).reshape(-1, *seen)

    return Encoding(seen, _torch(kind), encode)


def _torch(kind: Any) -> torch.dtype:
    return torch.uint8 if kind is np.uint8 else torch.float32
