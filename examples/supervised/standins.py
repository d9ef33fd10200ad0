"""Small image data in the formats of the real ones, for whoever does not have those.

Digits are real, scikit-learn's 1,797 images of 8 x 8 pixels in other files; faces and rooms are
drawn. All are written into a folder and read back by the reader of the real data.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from torch import Tensor

from examples.images import FILES
from examples.supervised.formats import CIFAR_10, CIFAR_100, SIDE

TRAINING = 1397
"""Digits for training; 400 are for tests."""
FEATURES = (
    "Attractive",
    "Smiling",
    "Eyeglasses",
    "Black_Hair",
    "Big_Nose",
    "Pale_Skin",
    "Wearing_Hat",
    "Mouth_Slightly_Open",
    "Oval_Face",
    "Bushy_Eyebrows",
)
"""Attributes of drawn faces, under CelebA's names; the first depends on the others."""
NEARER = 0.1
"""Depth that a box in a room is in front of another, at least."""


def digits() -> tuple[UInt8[np.ndarray, "n 8 8"], UInt8[np.ndarray, " n"]]:
    """scikit-learn's images and labels, in an order that mixes their writers."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = np.rint(found.images[order] * (255 / 16)).astype(np.uint8)
    return images, found.target[order].astype(np.uint8)


def idx_digits(folder: Path) -> None:
    """Writes MNIST's four files."""
    images, labels = digits()
    for part, names in zip((slice(TRAINING), slice(TRAINING, None)), FILES, strict=True):
        for name, array in zip(names, (images[part], labels[part]), strict=True):
            write_idx(folder / name, array)


def write_idx(path: Path, array: UInt8[np.ndarray, "..."]) -> None:
    """Writes a file of MNIST's format: the kind, the lengths of the axes, the bytes."""
    head = (0x800 + array.ndim).to_bytes(4, "big")
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(head + lengths + array.tobytes())


def _enlarged(images: UInt8[np.ndarray, "n 8 8"]) -> UInt8[np.ndarray, "n 3072"]:
    large = images.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    return np.repeat(large[:, None], 3, axis=1).reshape(len(images), -1)


def cifar_digits(folder: Path) -> None:
    """Writes the six files of CIFAR-10's binary version."""
    images, labels = digits()
    records = np.concatenate([labels[:, None], _enlarged(images)], axis=1)
    parts = [*np.array_split(records[:TRAINING], len(CIFAR_10) - 1), records[TRAINING:]]
    for name, part in zip(CIFAR_10, parts, strict=True):
        part.tofile(folder / name)
    names = "\n".join(f"digit_{number}" for number in range(10))
    (folder / "batches.meta.txt").write_text(names + "\n", "utf-8")


def cifar_100_digits(folder: Path) -> None:
    """Writes CIFAR-100's binary version: even and odd digits are the superclasses."""
    images, labels = digits()
    records = np.concatenate([labels[:, None] % 2, labels[:, None], _enlarged(images)], axis=1)
    for name, part in zip(CIFAR_100, (records[:TRAINING], records[TRAINING:]), strict=True):
        part.tofile(folder / name)


def digit_folders(folder: Path) -> None:
    """Writes a folder of PNG images for each class, in `train` and `val`."""
    images, labels = digits()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / ("train" if number < TRAINING else "val") / f"digit_{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:04}.png")


def faces(folder: Path, count: int = 1200) -> None:
    """Draws faces, and writes CelebA's attributes, landmarks and parts of the data.

    Whether a face counts as attractive follows from three of its other attributes and from chance.

    Args:
        folder: where they go.
        count: how many; two thirds are for training, a sixth each for validation and tests.
    """
    generator = np.random.default_rng(0)
    shown = generator.random((count, len(FEATURES))) < 0.5
    charm = 2.0 * shown[:, 1] - 1.5 * shown[:, 4] + 1.0 * shown[:, 8] - 0.75
    shown[:, 0] = charm + generator.normal(0, 0.5, count) > 0
    images = folder / "img_align_celeba"
    images.mkdir(exist_ok=True)
    files = [f"{number:06}.jpg" for number in range(1, count + 1)]
    landmarks = []
    for name, attributes in zip(files, shown, strict=True):
        image, places = _face(generator, attributes)
        image.save(images / name, quality=90)
        landmarks.append(places)
    signs = np.where(shown, 1, -1)
    points = [f"{part}_{axis}" for part in ("left", "right", "nose", "mouth") for axis in "xy"]
    _write_list(folder / "list_attr_celeba.txt", FEATURES, files, signs)
    _write_list(folder / "list_landmarks_align_celeba.txt", points, files, np.array(landmarks))
    parts = [min(2, max(0, number * 6 // count - 3)) for number in range(count)]
    text = "".join(f"{name} {part}\n" for name, part in zip(files, parts, strict=True))
    (folder / "list_eval_partition.txt").write_text(text, "utf-8")


def _write_list(path: Path, columns: object, files: list[str], values: np.ndarray) -> None:
    lines = [str(len(files)), " ".join(map(str, columns))]  # type: ignore[call-overload]
    lines += [
        f"{name} {' '.join(map(str, row))}"
        for name, row in zip(files, values.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _face(generator: np.random.Generator, shown: np.ndarray) -> tuple[Image.Image, list[int]]:
    """A face of 40 x 48 pixels, and where its eyes, nose and mouth are."""
    attribute = dict(zip(FEATURES, shown.tolist(), strict=True))
    image = Image.new("L", (40, 48), int(generator.integers(0, 90)))
    draw = ImageDraw.Draw(image)
    x, y = (int(generator.integers(-4, 5)) for _ in range(2))
    x, y = 20 + x, 25 + y
    skin = 225 if attribute["Pale_Skin"] else 175
    wide = 9 if attribute["Oval_Face"] else 12
    draw.ellipse(
        (x - wide - 1, y - 16, x + wide + 1, y + 8), fill=20 if attribute["Black_Hair"] else 130
    )
    draw.ellipse((x - wide, y - 12, x + wide, y + 14), fill=skin)
    if attribute["Wearing_Hat"]:
        draw.rectangle((x - 13, y - 16, x + 13, y - 11), fill=250)
    for eye in (x - 4, x + 4):
        draw.ellipse((eye - 1, y - 3, eye + 1, y - 1), fill=30)
        if attribute["Bushy_Eyebrows"]:
            draw.line((eye - 2, y - 6, eye + 2, y - 6), fill=40, width=2)
        if attribute["Eyeglasses"]:
            draw.rectangle((eye - 3, y - 5, eye + 3, y + 1), outline=5)
    nose = 3 if attribute["Big_Nose"] else 1
    draw.ellipse((x - nose, y + 1, x + nose, y + 1 + 2 * nose), fill=skin - 60)
    bend = -1 if attribute["Smiling"] else 1
    mouth = [(x - 5, y + 9 + bend), (x, y + 9 - bend), (x + 5, y + 9 + bend)]
    draw.line(mouth, fill=60, width=3 if attribute["Mouth_Slightly_Open"] else 1)
    noisy = np.asarray(image, dtype=np.float64) + generator.normal(0, 25, (48, 40))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), [
        x - 4,
        y - 2,
        x + 4,
        y - 2,
        x,
        y + 2,
        x,
        y + 9,
    ]


def rooms(
    folder: Path, train: int = 48, val: int = 24, side: int = 32, normals: bool = True
) -> None:
    """Draws boxes in front of a wall in MTAN's layout: image, label, depth and normal.

    Args:
        folder: where they go.
        train: how many for training.
        val: how many for validation.
        side: height and width.
        normals: whether there are any; Cityscapes has none.
    """
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", train), ("val", val)):
        arrays = [_room(generator, side) for _ in range(count)]
        for kind in ("image", "label", "depth", *(["normal"] if normals else [])):
            place = folder / part / kind
            place.mkdir(parents=True, exist_ok=True)
            for number, each in enumerate(arrays):
                np.save(place / f"{number}.npy", each[kind])


def _room(generator: torch.Generator, side: int) -> dict[str, np.ndarray]:
    def number(low: float, high: float) -> float:
        return float(low + (high - low) * torch.rand((), generator=generator))

    down = torch.linspace(0, 1, side)[:, None].expand(side, side)
    across = down.T
    normal = torch.tensor([0.0, 0.0, 1.0]).expand(side, side, 3).clone()
    depth = 3.0 + 0.5 * across
    label = torch.zeros(side, side)
    floor = down > 0.7
    depth = torch.where(floor, 3.5 - 2.5 * (down - 0.7), depth)
    label[floor], normal[floor] = 1.0, torch.tensor([0.0, 1.0, 0.0])
    for _ in range(3):
        kind = int(number(2.0, 5.0))
        x, y, size = number(0.2, 0.8), number(0.3, 0.8), number(0.12, 0.25)
        where = ((across - x).abs() < size) & ((down - y).abs() < size)
        near = number(1.0, 2.5)
        seen = where & (near < depth - NEARER)
        tilt = torch.tensor([number(-0.7, 0.7), number(-0.7, 0.7), 1.0])
        depth = torch.where(seen, near + 0.5 * (across - x) * float(tilt[0]), depth)
        label[seen], normal[seen] = float(kind), tilt / tilt.norm()
    colours = torch.tensor(
        [[0.7, 0.7, 0.6], [0.5, 0.4, 0.3], [0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.3, 0.3, 0.9]]
    )
    light = (normal @ torch.tensor([0.3, 0.4, 0.87])).clamp(min=0.2)
    image = colours[label.long()] * (light / (0.4 + 0.3 * depth))[..., None]
    image = image + 0.08 * torch.randn(side, side, 3, generator=generator)
    # A frame without labels, depth or normals, as the real data have.
    label[:1], depth[:1], normal[:1] = -1.0, 0.0, 0.0
    return {
        "image": image.clamp(0, 1).numpy().astype(np.float32),
        "label": label.numpy().astype(np.float32),
        "depth": depth[..., None].numpy().astype(np.float32),
        "normal": normal.numpy().astype(np.float32),
    }


def overlaid(
    images: Float[Tensor, "n 1 H W"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> tuple[Float[Tensor, "n 1 height width"], Int[Tensor, "n 2"]]:
    """Two images in one, as in Multi-MNIST: one moved up and left, the other down and right.

    A pixel is the brighter of the two. Each image is once the left one, with a random partner.

    Args:
        images: of single digits.
        labels: of them.
        generator: draws the partners.

    Returns:
        The overlaid images, larger by the move, and the labels of both.
    """
    partner = torch.randperm(len(images), generator=generator)
    height, width = images.shape[-2:]
    move = max(1, height // 4)  # 4 of 28 pixels in each direction would be MultiMNIST's
    canvas = images.new_zeros(len(images), 2, height + move, width + move)
    canvas[:, 0, :height, :width] = images[:, 0]
    canvas[:, 1, move:, move:] = images[partner, 0]
    return canvas.amax(1, keepdim=True), torch.stack([labels, labels[partner]], 1)
