"""Files that are never half there: written beside, flushed, then renamed."""

import hashlib
import json
import os
from collections.abc import Mapping
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
