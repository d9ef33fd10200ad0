"""Checkpoints: any nesting of numbers, text and tensors in one verified file, never pickled.

A checkpoint is written beside its place and renamed, so a process killed at any moment
leaves the ones before it; a checksum tells a damaged one, which loading then skips.

All files of a run are written next to their place, flushed and renamed, so that none is ever half
there.
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

CHECKSUM = "sha256"
CONTENT = "content"


class DamagedFileError(ValueError):
    """A file that cannot be read, or whose content is not what was written."""


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Writes all of `content` to `path`, or leaves what was there before.

    A link stays and the file that it leads to is replaced.  A terminal or `/dev/null` is written
    to as it is, since a rename would put a file in its place.

    Args:
        path: of the file; see `writable` for what is refused.
        content: one or several pieces, written one after the other.

    Raises:
        OSError: a full disk, a read-only folder; the temporary file is removed.
    """
    place = writable(path)
    if is_device(place):
        with place.open("wb", buffering=0) as device:
            for piece in content:
                device.write(piece)
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    finally:
        # Where the folder has vanished, or became a file, the first error is the one to show.
        with suppress(OSError):
            temporary.unlink()


def writable(path: Path) -> Path:
    """Finds the file that `path` leads to, through links, and refuses what must not be replaced.

    Args:
        path: of a file that need not be there.

    Returns:
        The file itself, or a character device.

    Raises:
        OSError: it is a folder, a pipe, a socket, a disk, or an open file of a process
            (`/dev/stdout`); `strerror` says which.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # or a link whose target is yet to be made
        mode = stat.S_IFREG
    if stat.S_ISCHR(mode):
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a disk, not a file", str(path))
    followed = Path(os.path.abspath(path))
    while followed.is_symlink():
        followed = Path(os.path.realpath(followed.parent)) / followed.name
        if Path("/proc") in followed.parents:
            raise OSError(errno.EINVAL, "it is an open file of a process", str(path))
        followed = followed.parent / followed.readlink()
    return Path(os.path.realpath(path))


def is_device(path: Path) -> bool:
    """Whether `path` is a character device, such as `/dev/null` or a terminal."""
    return path.is_char_device()


def remove_leftovers(folder: Path, names: Callable[[str], bool]) -> None:
    """Removes temporary files that killed processes left in a folder that nobody writes to.

    Args:
        folder: whose own files are looked at, not those of folders in it.
        names: whether a file of that name is one that this program writes there.
    """
    for path in folder.glob(".*.tmp"):
        written = LEFTOVER.fullmatch(path.name)
        if written and names(written[1]) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


LEFTOVER = re.compile(r"\.(.+)\.\d+\.tmp")
"""The name of a temporary file: that of the file, and the process."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a readable JSON file atomically."""
    write_atomically(path, (json.dumps(content, indent=2, sort_keys=False) + "\n").encode())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON description into one safetensors file with a checksum.

    Args:
        path: of the file, which is replaced atomically.
        tensors: by name, on whatever device.
        content: what else belongs to them; anything that JSON can hold.
    """
    # Copies, since tensors that share memory (tied weights, views) cannot be written.
    held = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
        for name, tensor in tensors.items()
    }
    text = json.dumps(content)
    written = save(held, {CONTENT: text, CHECKSUM: checksum(held, text)})
    write_atomically(path, *_in_order(written))


def _in_order(written: bytes) -> tuple[bytes, memoryview]:
    """Sorts the header of a safetensors file, so that equal content makes equal bytes.

    The library writes its metadata in a random order.  The file is the header's length (8 bytes),
    the header (JSON, padded by spaces to a multiple of 8) and the tensors.
    """
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.loads(written[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(written)[end:]


def read_text(path: Path) -> str:
    """The text of a file; whatever else has its name is refused, for a pipe would never end.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.read_text(encoding="utf-8")


@contextmanager
def opened(path: Path, framework: str = "pt") -> Iterator[Any]:
    """Opens a safetensors file; the library takes no path whose bytes are not UTF-8, this does.

    Args:
        path: of the file.
        framework: whose tensors are read.

    Raises:
        SafetensorError: it is no such file.
        OSError: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            place = os.fspath(path)
            place.encode()
        except UnicodeEncodeError:
            place = f"/dev/fd/{stack.enter_context(path.open('rb')).fileno()}"
        yield stack.enter_context(safe_open(place, framework=framework))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_tensors` wrote; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is not such a file, or it was cut or changed.
    """
    if path.exists() and not path.is_file():
        raise DamagedFileError(f"{path} is not a file")
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with opened(path) as file:
            metadata = file.metadata() or {}
            # Copies, since what is read lies in the file, which may be pruned or replaced.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error})") from error
    if CONTENT not in metadata or CHECKSUM not in metadata:
        raise DamagedFileError(f"{path} was not written by this program")
    if checksum(tensors, metadata[CONTENT]) != metadata[CHECKSUM]:
        raise DamagedFileError(f"{path} does not match its checksum")
    try:
        read = json.loads(metadata[CONTENT])
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not described in JSON ({error})") from error
    if not isinstance(read, dict):
        raise DamagedFileError(f"{path} is described by a {type(read).__name__}")
    return tensors, read


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of named tensors, on whatever device, and a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


FORMAT = "auxgate checkpoint 1"
PATTERN = "step-*.safetensors"

Json = Any
"""What the json module writes and reads."""


@dataclass(frozen=True)
class Loaded:
    """The newest checkpoint that is whole."""

    step: int
    """Agent steps of training behind it."""
    state: dict[str, Any]
    path: Path
    notes: tuple[str, ...]
    """A sentence on each newer checkpoint that had to be skipped."""


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int = 3) -> Path:
    """Writes a checkpoint, then removes all but the latest `keep`.

    Args:
        folder: made where it is missing, in a folder that is there.
        step: agent steps so far.  Checkpoints beyond it, left by a run that has since
            been resumed from an earlier one, are removed too.
        state: see `flatten`.
        keep: how many stay, this one included.

    Raises:
        OSError: the disk is full, say; all earlier checkpoints are still there.
        ValueError: `state` holds what cannot be saved.
    """
    assert keep >= 1
    # Not its parents: where the run's folder has vanished, it is not made again.
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:012d}.safetensors"
    tensors, content = flatten(state)
    save_tensors(path, tensors, {"format": FORMAT, "step": step, "state": content})
    present = checkpoints(folder)
    kept = [file for file in present if file <= path][-keep:]
    for file in present:
        if file not in kept:
            file.unlink(missing_ok=True)
    remove_leftovers(folder, lambda name: Path(name).match(PATTERN))
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The files in `folder` that are named like checkpoints, by their steps."""
    return sorted(path for path in folder.glob(PATTERN) if path.is_file())


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Loaded:
    """Reads the newest checkpoint that is whole.

    Args:
        folder: where `save_checkpoint` wrote.
        device: of the tensors.  Random generators take their states on the CPU only.

    Raises:
        ValueError: there is none.
    """
    damages: list[str] = []
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            step, state = _load(path)
        except DamagedFileError as error:
            reason = str(error).removeprefix(f"{path} ")
            damages.append(f"{path.name} is damaged ({reason})")
            continue
        notes = tuple(f"{damage}: continuing from step {step:,} instead." for damage in damages)
        return Loaded(step, to_device(state, torch.device(device)), path, notes)
    if damages:
        raise ValueError(
            f"no checkpoint in {folder} can be used: {'; '.join(damages)}; start a new run."
        )
    raise ValueError(f"there is no checkpoint in {folder}; start a new run.")


def _load(path: Path) -> tuple[int, dict[str, Any]]:
    try:
        tensors, content = load_tensors(path)
        if content.get("format") != FORMAT:
            raise DamagedFileError(f"{path} has not the format {FORMAT!r}")
        step, state = content["step"], unflatten(tensors, content["state"])
    except (KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise DamagedFileError(f"{path} cannot be used ({error!r})") from error
    if type(step) is not int or step < 0 or not isinstance(state, dict):
        raise DamagedFileError(f"{path} holds no step and state")
    return step, state


def flatten(state: Any) -> tuple[dict[str, Tensor], Json]:
    """Takes the tensors out of a nesting and describes the rest in strict JSON.

    A list is a JSON list; what JSON lacks is an object with one entry that names its
    kind: `{"dict": [[key, value], ...]}` (keys are text or whole numbers),
    `{"tuple": [...]}`, `{"tensor": name}`, `{"float": "nan"}`.

    Raises:
        ValueError: something in it is of another type.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _flattened(state, "", tensors)


def _flattened(value: Any, place: str, tensors: dict[str, Tensor]) -> Json:
    match value:
        case Tensor():
            # The number keeps names apart whatever the keys are.
            name = f"{len(tensors)}:{place}"
            tensors[name] = value
            return {"tensor": name}
        case Mapping():
            return {
                "dict": [
                    [_key(key, place), _flattened(item, f"{place}/{key}", tensors)]
                    for key, item in value.items()
                ]
            }
        case list() | tuple():
            items = [
                _flattened(item, f"{place}/{index}", tensors) for index, item in enumerate(value)
            ]
            return {"tuple": items} if isinstance(value, tuple) else items
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case None | bool() | int() | float() | str():
            return value
    raise ValueError(
        f"a checkpoint holds numbers, text and tensors in dictionaries, lists and tuples; "
        f"{place or 'the state'} is a {type(value).__name__}."
    )


def _key(key: Any, place: str) -> str | int:
    if type(key) in (str, int):
        return key  # type: ignore[no-any-return]
    raise ValueError(
        f"a checkpoint's keys are text or whole numbers; {place or 'the state'} has {key!r}."
    )


def unflatten(tensors: Mapping[str, Tensor], content: Json) -> Any:
    """Puts together again what `flatten` took apart."""
    match content:
        case {"tensor": str(name)}:
            return tensors[name]
        case {"dict": list(items)}:
            return {key: unflatten(tensors, item) for key, item in items}
        case {"tuple": list(items)}:
            return tuple(unflatten(tensors, item) for item in items)
        case {"float": str(text)}:
            return float(text)
        case list():
            return [unflatten(tensors, item) for item in content]
    return content


def to_device(state: Any, device: torch.device) -> Any:
    """Copies all tensors of a nesting to `device`."""
    tensors, content = flatten(state)
    return unflatten({name: tensor.to(device) for name, tensor in tensors.items()}, content)
