"""Images of digits: scikit-learn's, or MNIST's own files."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from configs.errors import UsageError

FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
DIMENSIONS = {0x801: 1, 0x803: 3}
"""By the number at the beginning of a file of bytes."""


@dataclass(frozen=True)
class Images:
    """Pictures, dark 0 to bright 1, and what they show."""

    pixels: Float[Tensor, "n side side"]
    labels: Int[Tensor, " n"]

    def some(self, count: int) -> "Images":
        """So many of them, drawn at random; all, in another order, if there are no more."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))
        return Images(self.pixels[order[:count]], self.labels[order[:count]])

    def rotated(self, degrees: float) -> Float[Tensor, "n side side"]:
        """Turns all pictures about their centres, anticlockwise; what turns in is dark."""
        if degrees == 0:
            return self.pixels
        angle = torch.tensor(degrees).deg2rad()
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
        moved = F.pad(turn, (0, 1)).expand(len(self.pixels), 2, 3)
        size = [len(self.pixels), 1, *self.pixels.shape[1:]]
        grid = F.affine_grid(moved, size, align_corners=False)
        return F.grid_sample(self.pixels[:, None], grid, align_corners=False)[:, 0]


def load(folder: str) -> Images:
    """All images there are, those for training and those for tests.

    Args:
        folder: of MNIST's four files, plain or compressed; empty: scikit-learn's 1,797 digits.

    Raises:
        UsageError: they are not there, or are no such files.
    """
    if not folder:
        digits = load_digits()
        pixels = torch.tensor(digits.images, dtype=torch.float32) / 16
        return Images(pixels, torch.tensor(digits.target))
    shown, named = (
        np.concatenate([read_array(Path(folder), name) for name in names])
        for names in zip(*FILES, strict=True)
    )
    if shown.ndim != 3 or named.shape != shown.shape[:1]:
        raise UsageError(f"--data {folder} has images and labels that do not belong together.")
    pixels = torch.tensor(shown, dtype=torch.float32) / 255
    return Images(pixels, torch.tensor(named, dtype=torch.int64))


def read_array(folder: Path, name: str) -> np.ndarray:
    """The array in a file of MNIST's format, unsigned bytes alone.

    Raises:
        UsageError: the file is not there, or is no such file.
    """
    path = next((each for each in (folder / name, folder / f"{name}.gz") if each.is_file()), None)
    if path is None:
        raise UsageError(
            f"--data {folder} has no {name}, plain or .gz: give the folder of MNIST's four files, "
            "or drop --data for scikit-learn's digits."
        )
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        number = int.from_bytes(data[:4], "big")
        shape = np.frombuffer(data, ">u4", DIMENSIONS[number], offset=4)
        content = np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape))
        return content.reshape(shape)
    except (EOFError, KeyError, OSError, ValueError, zlib.error) as error:
        raise UsageError(f"--data: {path} is not a whole file of MNIST: get it again.") from error
