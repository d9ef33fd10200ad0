"""Checkpoints: any nesting of numbers, text and tensors in one verified file, never pickled.

A checkpoint is written beside its place and renamed, so a process killed at any moment
leaves the ones before it; a checksum tells a damaged one, which loading then skips.

All files of a run are written next to their place, flushed and renamed, so that none is ever half
there.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
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


def write_atomically(path: Path, content: bytes) -> None:
    """Writes all of `content` to `path`, or leaves what was there before.

    Raises:
        OSError: a full disk, a read-only folder; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a readable JSON file atomically."""
    write_atomically(path, (json.dumps(content, indent=2, sort_keys=False) + "\n").encode())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON description into one safetensors file with a checksum."""
    # Copies, since tensors that share memory (tied weights, views) cannot be written.
    held = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
        for name, tensor in tensors.items()
    }
    text = json.dumps(content)
    write_atomically(path, save(held, {CONTENT: text, CHECKSUM: checksum(held, text)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_tensors` wrote; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is not such a file, or it was cut or changed.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies, since what is read lies in the file, which may be pruned or replaced.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error})") from error
    if CONTENT not in metadata or CHECKSUM not in metadata:
        raise DamagedFileError(f"{path} was not written by this program")
    if checksum(tensors, metadata[CONTENT]) != metadata[CHECKSUM]:
        raise DamagedFileError(f"{path} does not match its checksum")
    return tensors, json.loads(metadata[CONTENT])


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
        folder: made where it is missing.
        step: agent steps so far.  Checkpoints beyond it, left by a run that has since
            been resumed from an earlier one, are removed too.
        state: see `flatten`.
        keep: how many stay, this one included.

    Raises:
        OSError: the disk is full, say; all earlier checkpoints are still there.
        ValueError: `state` holds what cannot be saved.
    """
    assert keep >= 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:012d}.safetensors"
    tensors, content = flatten(state)
    save_tensors(path, tensors, {"format": FORMAT, "step": step, "state": content})
    present = sorted(folder.glob(PATTERN))
    kept = [file for file in present if file <= path][-keep:]
    for file in [*present, *folder.glob(f".{PATTERN}.*.tmp")]:
        if file not in kept:
            file.unlink(missing_ok=True)
    return path


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
    tensors, content = load_tensors(path)
    if content.get("format") != FORMAT:
        raise DamagedFileError(f"{path} has not the format {FORMAT!r}")
    return content["step"], unflatten(tensors, content["state"])


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
