"""Readers of image data in the formats in which it is distributed.

Four formats of labelled images are told apart by their files: IDX (MNIST), the binary versions of
CIFAR-10 and CIFAR-100, and folders of images, one per class (ImageNet, DomainNet). Two more have
readers of their own: CelebA's lists next to its images, and the arrays of MTAN's preprocessed
NYUv2 and Cityscapes.

https://yann.lecun.com/exdb/mnist, https://www.cs.toronto.edu/~kriz/cifar.html,
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, https://github.com/lorenmt/mtan
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from configs.errors import UsageError
from examples.images import FILES, read_array

SIDE = 32
"""Of CIFAR's images, which have three channels."""
CIFAR_10 = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR_100 = ("train.bin", "test.bin")
SUFFIXES = (".jpeg", ".jpg", ".png")
HELD_OUT = 5
"""Every so many-th image of a class is for tests where a folder does not say which are."""
AT_ONCE = 1000
"""Images that are resized together."""


@dataclass(frozen=True)
class Pictures:
    """Labelled images, those for training first."""

    pixels: UInt8[Tensor, "n C H W"]
    labels: Int[Tensor, " n"]
    names: Sequence[str]
    """Of the classes."""
    num_train: int
    coarse: Int[Tensor, " n"] | None = None
    """Superclasses, which CIFAR-100 has."""
    train: Int[Tensor, " _"] = field(init=False)
    test: Int[Tensor, " _"] = field(init=False)

    def __post_init__(self) -> None:
        indices = torch.arange(len(self.labels))
        object.__setattr__(self, "train", indices[: self.num_train])
        object.__setattr__(self, "test", indices[self.num_train :])

    def floats(self, chosen: Int[Tensor, " _"]) -> Float[Tensor, "_ C H W"]:
        """Some of them, from dark 0 to bright 1."""
        return self.pixels[chosen].float() / 255


def read_pictures(folder: Path, side: int = 0, classes: Sequence[str] = ()) -> Pictures:
    """Reads labelled images in whichever of the four formats the folder has.

    Args:
        folder: of IDX files, of CIFAR's binary version, or of folders of images: `train` and
            `val` (or `test`) with a folder per class in each, or the classes' folders alone.
        side: height and width that all images get; 0: as they are.
        classes: which folders of images to read; all if empty. The other formats have all.

    Raises:
        UsageError: the folder has none of them, or a file is not whole.
    """
    names = {path.name for path in folder.iterdir()}
    if names & set(CIFAR_10):
        return _resized(_read_cifar(folder, CIFAR_10, "batches.meta.txt", 1), side)
    if names & set(CIFAR_100):
        return _resized(_read_cifar(folder, CIFAR_100, "fine_label_names.txt", 2), side)
    if "data_batch_1" in names or (folder / "meta").is_file():
        raise UsageError(f"--data {folder} is CIFAR's version for Python: get the binary one.")
    if any("ubyte" in name for name in names):
        return _resized(_read_idx(folder), side)
    return _read_folders(folder, side, classes)


def _read_idx(folder: Path) -> Pictures:
    (images, labels), (test_images, test_labels) = (
        [read_array(folder, name) for name in names] for names in FILES
    )
    if images.ndim != 3 or len(images) != len(labels) or len(test_images) != len(test_labels):
        raise UsageError(f"--data {folder} has images and labels that do not belong together.")
    pixels = torch.from_numpy(np.concatenate([images, test_images]))[:, None]
    shown = torch.from_numpy(np.concatenate([labels, test_labels])).long()
    names = [str(number) for number in range(int(shown.max()) + 1)]
    return Pictures(pixels, shown, names, len(labels))


def _read_cifar(folder: Path, files: Sequence[str], list_of_names: str, labels: int) -> Pictures:
    """Records of one or two labels (the superclass first) and 3 x 32 x 32 bytes."""
    length = labels + 3 * SIDE * SIDE
    parts = []
    for name in files:
        path = folder / name
        if not path.is_file():
            raise UsageError(f"--data {folder} has no {name}: give all of CIFAR's binary files.")
        data = np.fromfile(path, np.uint8)
        if len(data) == 0 or len(data) % length != 0:
            raise UsageError(f"--data: {path} is not a whole file of CIFAR's binary version.")
        parts.append(data.reshape(-1, length))
    records = torch.from_numpy(np.concatenate(parts))
    fine = records[:, labels - 1].long()
    path = folder / list_of_names
    names = path.read_text("utf-8").split() if path.is_file() else []
    names += [str(number) for number in range(len(names), int(fine.max()) + 1)]
    return Pictures(
        records[:, labels:].reshape(-1, 3, SIDE, SIDE),
        fine,
        names,
        len(fine) - len(parts[-1]),
        records[:, 0].long() if labels == 2 else None,
    )


def _read_folders(folder: Path, side: int, classes: Sequence[str]) -> Pictures:
    places = [
        folder / "train",
        next(filter(Path.is_dir, (folder / "val", folder / "test")), folder),
    ]
    split = all(place.is_dir() for place in places) and places[1] != folder
    top = places[0] if split else folder
    names = sorted(path.name for path in top.iterdir() if path.is_dir())
    for wanted in classes:
        if wanted not in names:
            raise UsageError(f"--data {folder} has no class {wanted}: it has {_some(names)}.")
    names = [name for name in names if not classes or name in classes]
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for number, name in enumerate(names):
        found = [(path, number) for path in image_files(top / name)]
        if split:
            test += [(path, number) for path in image_files(places[1] / name)]
        else:
            test += found[::HELD_OUT]
            found = [each for index, each in enumerate(found) if index % HELD_OUT]
        train += found
    if not train or not test:
        raise UsageError(
            f"--data {folder} has neither IDX files, nor CIFAR's binary ones, nor folders of "
            f"images ({', '.join(SUFFIXES)}) for training and tests: give a folder that has."
        )
    first = read_image(train[0][0], side, "RGB")
    side = side or first.shape[1]
    pixels = torch.stack([read_image(path, side, "RGB") for path, _ in train + test])
    labels = torch.tensor([number for _, number in train + test])
    return Pictures(pixels, labels, names, len(train))


def image_files(folder: Path) -> list[Path]:
    """All images of a folder, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read_image(path: Path, side: int, mode: str) -> UInt8[Tensor, "C H W"]:
    """Reads an image: its square middle, resized.

    Args:
        path: of a JPEG or PNG file.
        side: height and width; 0: those of its square middle.
        mode: "RGB", or "L" for grey.

    Raises:
        UsageError: the file is not there, or is no whole image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert(mode)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UsageError(f"--data: {path} is not a whole image: get it again.") from error
    width, height = image.size
    edge = min(width, height)
    left, upper = (width - edge) // 2, (height - edge) // 2
    size = side or edge
    box = (left, upper, left + edge, upper + edge)
    pixels = np.array(image.resize((size, size), Image.Resampling.BOX, box))
    return torch.from_numpy(pixels.reshape(size, size, -1)).movedim(-1, 0)


def _resized(pictures: Pictures, side: int) -> Pictures:
    if side in (0, pictures.pixels.shape[-1]):
        return pictures
    pixels = torch.cat(
        [
            F.interpolate(part.float(), size=(side, side), mode="area").round().byte()
            for part in pictures.pixels.split(AT_ONCE)
        ]
    )
    return Pictures(pixels, pictures.labels, pictures.names, pictures.num_train, pictures.coarse)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")


@dataclass(frozen=True)
class Table:
    """Numbers of every file that a list of CelebA names."""

    files: Sequence[str]
    columns: Sequence[str]
    values: Float[Tensor, "n columns"]


def read_list(path: Path) -> Table:
    """Reads a list in CelebA's format: how many, the names of the columns, a file in every line.

    Raises:
        UsageError: the list is not there, or not whole.
    """
    if not path.is_file():
        raise UsageError(
            f"--data {path.parent} has no {path.name}: give the folder of CelebA's lists."
        )
    lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    try:
        count, columns = int(lines[0][0]), lines[1]
        values = torch.tensor([[float(word) for word in line[1:]] for line in lines[2:]])
    except (IndexError, ValueError) as error:
        raise _broken_list(path) from error
    if values.shape != (count, len(columns)):
        raise _broken_list(path)
    return Table([line[0] for line in lines[2:]], columns, values)


def _broken_list(path: Path) -> UsageError:
    return UsageError(f"--data: {path} is not a whole list of CelebA: get it again.")


@dataclass(frozen=True)
class Scenes:
    """A part of MTAN's preprocessed data; arrays are read when they are needed."""

    folder: Path
    kinds: dict[str, str]
    """Folder of each kind of array: image, label, depth, and normal where there are normals."""
    count: int

    def read(self, kind: str, index: int) -> Float[Tensor, "C H W"]:
        """One array, channels first.

        Raises:
            UsageError: the file is not there, or no whole array.
        """
        path = self.folder / self.kinds[kind] / f"{index}.npy"
        try:
            array = np.load(path, allow_pickle=False)
        except (EOFError, OSError, ValueError) as error:
            raise UsageError(f"--data: {path} is not a whole array: get it again.") from error
        if array.ndim not in (2, 3):
            raise UsageError(f"--data: {path} must have two or three axes, not {array.ndim}.")
        tensor = torch.from_numpy(array.astype(np.float32))
        return tensor[None] if array.ndim == 2 else tensor.movedim(-1, 0)


def read_scenes(folder: Path, part: str) -> Scenes:
    """Finds the arrays of MTAN's layout: `train/image/0.npy`, and so on.

    Args:
        folder: with `train` and `val`.
        part: train or val.

    Raises:
        UsageError: a folder is not there, or has none.
    """
    kinds = {}
    for kind, names in {
        "image": ("image",),
        "label": ("label", "label_7"),
        "depth": ("depth",),
        "normal": ("normal",),
    }.items():
        found = [name for name in names if (folder / part / name).is_dir()]
        if found:
            kinds[kind] = found[0]
        elif kind != "normal":
            raise UsageError(
                f"--data {folder} has no {part}/{kind}: give MTAN's NYUv2 or Cityscapes."
            )
    count = len(list((folder / part / kinds["image"]).glob("*.npy")))
    if count == 0:
        raise UsageError(f"--data {folder} has no arrays in {part}/{kinds['image']}.")
    return Scenes(folder / part, kinds, count)


@contextmanager
def broken(path: Path, what: str) -> Iterator[None]:
    """Turns what is wrong with the text of a file into one sentence.

    Args:
        path: of the file.
        what: it should be.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"--data: {path} is not {what}: get it again.") from error
