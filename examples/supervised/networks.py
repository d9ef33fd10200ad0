"""The networks of the supervised examples; all end in features that the heads read."""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

GROUPS = 4
"""Of channels that are normalised together: unlike batch normalisation, nothing leaks from the
batch of one task into another."""


class Block(nn.Module):
    """A residual block that normalises before it convolves, as in ResNetV2."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(GROUPS, channels)
        self.first = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, wider)
        self.second = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        same = stride == 1 and channels == wider
        self.skip = None if same else nn.Conv2d(channels, wider, 1, stride, bias=False)

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B wider height width"]:
        """Adds what two convolutions find."""
        normed = self.first_norm(inputs).relu()
        kept: Tensor = inputs if self.skip is None else self.skip(normed)
        inner = self.second_norm(self.first(normed)).relu()
        total: Tensor = kept + self.second(inner)
        return total


def residual_network(channels: int, width: int, blocks: Sequence[int]) -> nn.Sequential:
    """ResNetV2: 64 channels and (2, 2, 2, 2) blocks are ResNetV2-18, without its pooling at first.

    Args:
        channels: of the images.
        width: channels of the first stage; they double from stage to stage.
        blocks: of each stage; each but the first halves the images.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False)]
    now = width
    for stage, count in enumerate(blocks):
        for number in range(count):
            wider = width * 2**stage
            layers.append(Block(now, wider, 2 if number == 0 and stage > 0 else 1))
            now = wider
    layers += [nn.GroupNorm(GROUPS, now), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


def convolutions(channels: int, side: int, widths: Sequence[int], features: int) -> nn.Sequential:
    """Convolutions, each with ReLU and pooling, and a layer of features.

    Args:
        channels: of the images.
        side: their height and width, at least 2 to the number of convolutions.
        widths: channels of each convolution.
        features: what the last layer has.
    """
    layers: list[nn.Module] = []
    for before, after in zip((channels, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        side //= 2
    layers += [nn.Flatten(), nn.Linear(widths[-1] * side * side, features), nn.ReLU()]
    return nn.Sequential(*layers)


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU, of flattened inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


class Tagger(nn.Module):
    """Words in, features of every word out: embeddings and a bidirectional LSTM."""

    def __init__(self, words: int, embedding: int, units: int, layers: int, dropout: float) -> None:
        """Makes the layers.

        Args:
            words: in the vocabulary; number 0 fills up short sentences.
            embedding: numbers per word.
            units: of the LSTM, in each direction.
            layers: of the LSTM.
            dropout: share of the features that are dropped.
        """
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=0)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(
            embedding, units, layers, batch_first=True, dropout=between, bidirectional=True
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Int[Tensor, "B T"]) -> Float[Tensor, "B T F"]:
        """Reads sentences from both sides."""
        lengths = (words > 0).sum(1)
        # Packed: what fills a sentence up must not be read on the way back.
        packed = pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        features, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        dropped: Tensor = self.dropout(features)
        return dropped


class SegNet(nn.Module):
    """SegNet: convolutions and pooling, then the way back through the places of the maxima.

    Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder Architecture
    for Image Segmentation", https://arxiv.org/abs/1511.00561; two convolutions in every stage.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        ways = list(zip((channels, *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(_two(before, after) for before, after in ways)
        self.up = nn.ModuleList(
            _two(after, widths[0] if stage == 0 else before)
            for stage, (before, after) in enumerate(ways)
        )

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H W"]:
        """Features of every pixel."""
        places, sizes = [], []
        for down in self.down:
            images = down(images)
            sizes.append(images.shape)
            images, place = F.max_pool2d(images, 2, return_indices=True)
            places.append(place)
        for stage in reversed(range(len(places))):
            size = list(sizes[stage][-2:])
            images = F.max_unpool2d(images, places[stage], [2, 2], output_size=size)
            images = self.up[stage](images)
        return images


def _two(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.GroupNorm(GROUPS, after), nn.ReLU()]
    return nn.Sequential(*layers)


def jigsaw(
    images: Float[Tensor, "B C H W"], order: Int[Tensor, "B tiles"]
) -> Float[Tensor, "B C H W"]:
    """Puts the tiles of every image into another order.

    Args:
        images: whose height and width the number of tiles in a row divides.
        order: which tile comes where, row by row.
    """
    batch, channels, height, width = images.shape
    row = isqrt(order.shape[1])
    cut = images.unflatten(2, (row, height // row)).unflatten(4, (row, width // row))
    tiles = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [B, tiles, C, h, w]
    moved = tiles[torch.arange(batch)[:, None], order].unflatten(1, (row, row))
    whole: Tensor = moved.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)
    return whole
