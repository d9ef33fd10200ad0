import pytest
import torch
from torch.nn import functional as F

from agents.gates import make
from examples.images import Images
from examples.lessons import POINTS, learn, nearest_and_farthest, pairs, rotations, split


@pytest.fixture
def images():
    """60 images of ten classes: a bright pixel of 16 tells which, under some noise."""
    labels = torch.arange(60) % 10
    bright = F.one_hot(labels, 16).float().view(60, 4, 4)
    noise = torch.rand(60, 4, 4, generator=torch.Generator().manual_seed(0))
    return Images(0.9 * bright + 0.1 * noise, labels)


@pytest.fixture
def splits(images):
    """Of K = 2 seeds."""
    return split(images, seeds=2, main=20, auxiliary=30)


def test_no_image_is_in_two_splits(splits):
    assert [part.shape for part in splits] == [(2, 20), (2, 30), (2, 10)]
    for seed in range(2):
        together = torch.cat([part[seed] for part in splits])
        assert together.sort().values.tolist() == list(range(60))
    assert not torch.equal(splits[0][0], splits[0][1])


def test_rotations_are_every_angle_with_every_seed(images, splits):
    lessons = rotations(images, splits, (0.0, 90.0))
    assert lessons.variant.tolist() == [1, 1, 2, 2]
    assert lessons.seed.tolist() == [0, 1, 0, 1]
    assert torch.equal(lessons.pictures[0], lessons.pictures[1])
    torch.testing.assert_close(lessons.pictures[2], images.rotated(90.0).flatten(1))
    assert torch.equal(lessons.main[3], images.labels)


def test_pairs_ask_for_one_class_and_for_another(images, splits):
    lessons = pairs(images, splits, [(3, 5), (4, 4)])
    assert lessons.seed.tolist() == [0, 1, 0, 1]
    assert torch.equal(lessons.main[0], (images.labels == 3).long())
    assert torch.equal(lessons.auxiliary[0], (images.labels == 5).long())
    assert torch.equal(lessons.main[2], lessons.auxiliary[3])
    assert lessons.pictures.shape == (1, 60, 16)


def test_classes_are_near_or_far_by_their_mean_images():
    # Class c is as bright as c squared: 0 and 1 are nearest, 0 and 9 farthest.
    labels = torch.arange(10)
    images = Images(labels.square().float().view(10, 1, 1), labels)
    assert nearest_and_farthest(images, 2) == [(0, 1), (1, 2), (1, 9), (0, 9)]


def test_networks_learn_and_the_auxiliary_helps_where_it_is_the_same_task(images, splits):
    lessons = rotations(images, splits, (0.0, 180.0))
    before = learn(lessons, None, steps=1)
    after = learn(lessons, None, steps=300)
    assert before.accuracy.mean() < 0.4
    assert after.accuracy.min() > 0.7
    assert after.cosine.isnan().all()
    # Main-only learning does not see the auxiliary: an angle makes no difference.
    torch.testing.assert_close(after.accuracy[:2], after.accuracy[2:])
    helped = learn(lessons, make("cosine"), steps=300)
    assert helped.cosine.shape == (4, POINTS)
    assert helped.cosine[:2].mean() > helped.cosine[2:].mean()


def test_a_closed_gate_leaves_main_only_learning(images, splits):
    # The auxiliary is blind: its pictures are all dark, and its gradient reaches no weight.
    lessons = rotations(Images(images.pixels * 0, images.labels), splits, (0.0,))
    alone = learn(lessons, None, steps=5)
    gated = learn(lessons, make("cosine_unweighted"), steps=5)
    torch.testing.assert_close(alone.accuracy, gated.accuracy)


def test_rare_classes_count_as_much_as_common_ones():
    # One bright image in ten: who always says dark is right half of the time.
    labels = torch.tensor([1] + [0] * 9).repeat(3)
    images = Images(torch.zeros(30, 2, 2), labels)
    dealt = torch.arange(30).view(1, 3, 10).unbind(1)
    lessons = pairs(images, tuple(dealt), [(1, 1)])
    assert learn(lessons, None, steps=1).accuracy.tolist() == pytest.approx([0.5])


def test_gates_that_ask_for_samples_get_them(images, splits):
    lessons = rotations(images, splits, (0.0,))
    outcome = learn(lessons, make("attittud", rank=2, refresh=3), steps=10)
    assert outcome.cosine.isfinite().all()
