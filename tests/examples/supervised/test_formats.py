import gzip

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import UsageError
from examples.images import FILES
from examples.supervised import standins
from examples.supervised.formats import (
    CIFAR_10,
    CIFAR_100,
    read_list,
    read_pictures,
    read_scenes,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def cifar_10(tmp_path):
    """One image in each file; image i shows class 9 - i."""
    for number, (name, image) in enumerate(zip(CIFAR_10, PIXELS, strict=True)):
        (tmp_path / name).write_bytes(bytes([9 - number]) + image.tobytes())
    return tmp_path


@pytest.fixture
def idx(tmp_path):
    for names, count in zip(FILES, (3, 2), strict=True):
        images = np.arange(count * 12, dtype=np.uint8).reshape(count, 4, 3)
        standins.write_idx(tmp_path / names[0], images)
        standins.write_idx(tmp_path / names[1], np.arange(count, dtype=np.uint8))
    return tmp_path


def test_records_of_cifar_10_are_a_label_and_three_planes(cifar_10):
    data = read_pictures(cifar_10)
    assert data.labels.tolist() == [9, 8, 7, 6, 5, 4]
    assert torch.equal(data.pixels, torch.from_numpy(PIXELS))
    assert data.test.tolist() == [5]
    assert data.coarse is None


def test_records_of_cifar_100_have_the_superclass_first(tmp_path):
    for number, name in enumerate(CIFAR_100):
        (tmp_path / name).write_bytes(bytes([number, 90 + number]) + PIXELS[number].tobytes())
    data = read_pictures(tmp_path)
    assert data.labels.tolist() == [90, 91]
    assert data.coarse.tolist() == [0, 1]
    assert torch.equal(data.pixels[1], torch.from_numpy(PIXELS[1]))


def test_files_of_mnist_are_read_plain_and_compressed(idx):
    path = idx / FILES[1][0]
    (idx / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    data = read_pictures(idx)
    assert data.pixels.shape == (5, 1, 4, 3)
    assert data.num_train == 3
    assert data.pixels[2, 0, 1, 2] == 2 * 12 + 3 + 2


def test_folders_of_images_are_classes(tmp_path):
    for part, count in (("train", 2), ("val", 1)):
        for name, grey in (("dog", 10), ("cat", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (8, 6), (grey, grey, grey))
                image.save(tmp_path / part / name / f"{number}.JPEG")
    data = read_pictures(tmp_path, side=4)
    assert list(data.names) == ["cat", "dog"]
    assert data.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert data.num_train == 4
    assert data.pixels.shape == (6, 3, 4, 4)
    assert abs(int(data.pixels[2].float().mean()) - 10) < 3
    with pytest.raises(UsageError, match="has no class cow: it has cat, dog"):
        read_pictures(tmp_path, classes=["cow"])


def test_every_fifth_image_is_for_tests_where_folders_do_not_say(tmp_path):
    (tmp_path / "cat").mkdir()
    for number in range(10):
        Image.new("L", (4, 4), number).save(tmp_path / "cat" / f"{number}.png")
    data = read_pictures(tmp_path)
    assert data.pixels[data.test, 0, 0, 0].tolist() == [0, 5]
    assert data.num_train == 8


def test_images_are_made_smaller_by_the_mean_of_their_pixels(cifar_10):
    small = read_pictures(cifar_10, side=16).pixels.float()
    wanted = torch.nn.functional.avg_pool2d(torch.from_numpy(PIXELS).float(), 2)
    assert (small - wanted).abs().max() <= 0.5


def test_a_missing_file_of_cifar_is_named(cifar_10):
    (cifar_10 / "data_batch_3.bin").unlink()
    with pytest.raises(UsageError, match=r"has no data_batch_3\.bin: give all"):
        read_pictures(cifar_10)


def test_a_file_of_cifar_that_was_cut_is_refused(cifar_10):
    path = cifar_10 / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"test_batch\.bin is not a whole file"):
        read_pictures(cifar_10)


def test_cifars_version_for_python_is_refused(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80")
    with pytest.raises(UsageError, match="version for Python: get the binary one"):
        read_pictures(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="neither IDX files, nor CIFAR's binary ones"):
        read_pictures(tmp_path)


def test_an_image_that_was_cut_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    for number in range(6):
        Image.new("L", (40, 40), number).save(tmp_path / "cat" / f"{number}.png")
    path = tmp_path / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=r"3\.png is not a whole image"):
        read_pictures(tmp_path)


def test_a_list_of_celeba_is_read(tmp_path):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text("2\nSmiling Young\n000001.jpg  1 -1\n000002.jpg -1 -1\n", "utf-8")
    table = read_list(path)
    assert list(table.files) == ["000001.jpg", "000002.jpg"]
    assert list(table.columns) == ["Smiling", "Young"]
    assert table.values.tolist() == [[1, -1], [-1, -1]]


@pytest.mark.parametrize(
    "text", ["", "2\nA B\n1.jpg 1 1\n", "1\nA B\n1.jpg 1\n", "x\nA\n1.jpg y\n"]
)
def test_a_list_that_is_not_whole_is_refused(tmp_path, text):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match="is not a whole list of CelebA"):
        read_list(path)


def test_arrays_of_mtan_have_their_channels_last(tmp_path):
    standins.rooms(tmp_path, train=2, val=1, side=8)
    scenes = read_scenes(tmp_path, "train")
    assert scenes.count == 2
    shapes = {kind: tuple(scenes.read(kind, 1).shape) for kind in scenes.kinds}
    assert shapes == {
        "image": (3, 8, 8),
        "label": (1, 8, 8),
        "depth": (1, 8, 8),
        "normal": (3, 8, 8),
    }
    normal = scenes.read("normal", 0)
    torch.testing.assert_close(normal[:, 1:].norm(dim=0), torch.ones(7, 8))


def test_cityscapes_has_no_normals_and_its_labels_may_have_another_name(tmp_path):
    standins.rooms(tmp_path, train=1, val=1, side=8, normals=False)
    (tmp_path / "val" / "label").rename(tmp_path / "val" / "label_7")
    scenes = read_scenes(tmp_path, "val")
    assert set(scenes.kinds) == {"image", "label", "depth"}
    assert scenes.read("label", 0).shape == (1, 8, 8)


def test_an_array_that_was_cut_is_refused(tmp_path):
    standins.rooms(tmp_path, train=1, val=1, side=8)
    path = tmp_path / "train" / "depth" / "0.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"0\.npy is not a whole array"):
        read_scenes(tmp_path, "train").read("depth", 0)
    with pytest.raises(UsageError, match="has no test/image: give MTAN's"):
        read_scenes(tmp_path, "test")


@pytest.mark.parametrize(
    "write", [standins.idx_digits, standins.cifar_digits, standins.cifar_100_digits]
)
def test_digits_are_the_same_in_every_format(tmp_path, write):
    write(tmp_path)
    data = read_pictures(tmp_path, side=8)
    images, labels = standins.digits()
    assert data.labels.tolist() == labels.tolist()
    assert torch.equal(data.pixels[:, 0], torch.from_numpy(images))
    assert data.num_train == standins.TRAINING


def test_two_digits_lie_over_each_other():
    images = torch.zeros(2, 1, 4, 4)
    images[0, 0, 0, 0], images[1, 0, 3, 3] = 0.5, 1.0
    both, labels = standins.overlaid(images, torch.tensor([7, 3]), torch.Generator().manual_seed(0))
    assert both.shape == (2, 1, 5, 5)
    for image, (first, second) in zip(both[:, 0], labels.tolist(), strict=True):
        assert image[0, 0] == (0.5 if first == 7 else 0.0)
        assert image[4, 4] == (1.0 if second == 3 else 0.0)
