import gzip

import numpy as np
import pytest
import torch

from configs.errors import UsageError
from examples.images import FILES, Images, load


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return Images(torch.rand(5, 4, 4, generator=generator), torch.arange(5))


@pytest.fixture
def mnist(tmp_path):
    """A folder like MNIST's: three and two images of 4 x 4 pixels, the tests' compressed."""
    arrays = (
        (np.arange(48).reshape(3, 4, 4), np.array([7, 0, 9])),
        (
            np.arange(100, 132).reshape(2, 4, 4),
            np.array([4, 4]),
        ),
    )
    for names, pair in zip(FILES, arrays, strict=True):
        for name, array in zip(names, pair, strict=True):
            # The number says unsigned bytes, 8, and how many axes; then comes their lengths.
            head = (0x800 + array.ndim).to_bytes(4, "big")
            head += b"".join(length.to_bytes(4, "big") for length in array.shape)
            data = head + array.astype(np.uint8).tobytes()
            if name.startswith("t10k"):
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (tmp_path / name).write_bytes(data)
    return tmp_path


def test_quarter_turns_are_exact(images):
    for turns in range(4):
        turned = images.rotated(90.0 * turns)
        torch.testing.assert_close(turned, torch.rot90(images.pixels, turns, (1, 2)))


def test_what_turns_in_is_dark():
    white = Images(torch.ones(1, 6, 6), torch.zeros(1, dtype=torch.int64))
    turned = white.rotated(45.0)[0]
    assert turned[0, 0] == 0
    assert turned[2, 3] == pytest.approx(1.0)


def test_some_images_keep_their_labels(images):
    few = images.some(3)
    assert few.labels.unique().numel() == 3
    assert torch.equal(few.pixels, images.pixels[few.labels])
    assert images.some(99).labels.numel() == 5


def test_the_digits_are_scikit_learns():
    digits = load("")
    assert digits.pixels.shape == (1797, 8, 8)
    assert digits.pixels.min() == 0
    assert digits.pixels.max() == 1
    assert digits.labels.unique().tolist() == list(range(10))


def test_mnists_own_files_are_read_plain_and_compressed(mnist):
    images = load(str(mnist))
    assert images.labels.tolist() == [7, 0, 9, 4, 4]
    assert images.pixels.shape == (5, 4, 4)
    # Row 1, column 2 of the last image: 100 + 16 + 6.
    assert images.pixels[4, 1, 2] == pytest.approx(122 / 255)


@pytest.mark.parametrize("name", [name for names in FILES for name in names])
def test_a_file_that_is_missing_is_named_with_the_cure(mnist, name):
    for path in mnist.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(UsageError, match=f"--data .* has no {name}, .* or drop --data"):
        load(str(mnist))


@pytest.mark.parametrize("data", [b"", b"\0\0\x08\x05", b"\0\0\x08\x01\0\0\0\x09ab", b"PK\x03\x04"])
def test_a_file_that_is_something_else_is_refused(mnist, data):
    (mnist / FILES[0][1]).write_bytes(data)
    with pytest.raises(UsageError, match="is not a whole file of MNIST"):
        load(str(mnist))


@pytest.mark.parametrize("cut", [3, 15])
def test_a_compressed_file_that_was_cut_is_refused(mnist, cut):
    path = mnist / f"{FILES[1][0]}.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UsageError, match="is not a whole file of MNIST"):
        load(str(mnist))


def test_labels_of_other_images_are_refused(mnist):
    head = (0x801).to_bytes(4, "big") + (1).to_bytes(4, "big")
    (mnist / FILES[0][1]).write_bytes(head + b"\x05")
    with pytest.raises(UsageError, match="do not belong together"):
        load(str(mnist))
