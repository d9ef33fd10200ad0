import numpy as np
import pytest
import torch

from agents.heads.components.views import RandomMask, RandomShift, is_image
from agents.networks.torsos import MlpConfig
from agents.runtime.random import Stream
from envs.base import EnvSpec


def stream(seed=0):
    return Stream(torch.Generator().manual_seed(seed))


def specification(shape, dtype=torch.uint8, num_symbols=0):
    return EnvSpec("Made", 2, shape, dtype, 4, "Made", num_symbols=num_symbols)


@pytest.mark.parametrize(
    ("expected", "spec"),
    [
        (True, specification((4, 84, 84))),
        (True, specification((3, 64, 64))),
        (True, specification((1, 36, 40))),
        (False, specification((3, 7, 7))),  # MiniGrid: a board
        (False, specification((1, 40, 35))),
        (False, specification((40, 40), num_symbols=5)),
        (False, specification((4, 84, 84), torch.float32)),
        (False, specification((10, 5), torch.float32)),
    ],
)
def test_images_are_bytes_in_channels_of_some_size(expected, spec):
    assert is_image(spec) is expected


def shifted_by(image, pad):
    """All (dy, dx) by which a padded and cropped image may have been moved, with the results."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    return {
        (dy, dx): padded[:, pad + dy : pad + dy + height, pad + dx : pad + dx + width]
        for dy in range(-pad, pad + 1)
        for dx in range(-pad, pad + 1)
    }


def test_a_shifted_image_is_a_crop_of_the_padded_one_and_every_shift_occurs():
    image = torch.randint(256, (60, 2, 6, 5), dtype=torch.uint8)
    shifted = RandomShift(1, stream())(image)
    assert shifted.dtype == torch.uint8
    found = set()
    for before, after in zip(image.numpy(), shifted.numpy(), strict=True):
        # All channels at once: the frames of a stack move together.
        moves = [
            move for move, crop in shifted_by(before, 1).items() if np.array_equal(crop, after)
        ]
        assert len(moves) == 1
        found |= set(moves)
    # Of 60 shifts among nine each is missed with probability (8/9)^60 = 0.1 %.
    assert len(found) == 9


def test_no_shift_leaves_images_alone():
    image = torch.randint(256, (3, 2, 6, 5), dtype=torch.uint8)
    assert torch.equal(RandomShift(0, stream())(image), image)


@pytest.mark.parametrize("num_symbols", [0, 4])
def test_a_mask_hides_some_entries_and_leaves_the_others_alone(num_symbols):
    value = torch.randint(1, 4, (200, 3, 5), dtype=torch.uint8)
    masked = RandomMask(0.25, num_symbols, stream())(value)
    assert masked.dtype == value.dtype
    hidden = masked != value
    assert set(masked[hidden].tolist()) == {255 if num_symbols else 0}
    # 3000 entries: a standard deviation of 0.8 %.
    assert abs(float(hidden.float().mean()) - 0.25) < 0.03


def test_a_torso_sees_nothing_where_a_symbol_is_hidden():
    torso = MlpConfig(widths=(5,)).build((2, 2), num_symbols=3)
    symbol = torch.zeros(1, 2, 2, dtype=torch.uint8)
    hidden = RandomMask(0.999999, 3, stream())(symbol)
    # tanh(W 0 + b) with b = 0.
    assert torch.equal(torso(hidden).features, torch.zeros(1, 5))
    assert torso(symbol).features.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda numbers: RandomShift(4, numbers), torch.arange(3 * 36 * 36).view(3, 1, 36, 36)),
        (lambda numbers: RandomMask(0.5, 0, numbers), torch.randn(3, 20)),
    ],
)
def test_changes_are_random_and_go_on_from_a_saved_state(change, value):
    first, second = change(stream(1)), change(stream(2))
    assert not torch.equal(first(value), first(value))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(value), second(value))
