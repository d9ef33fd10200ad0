"""Pictures of Gymnasium's environments."""

import gymnasium
import numpy as np
import pytest
import torch

from envs.base import PictureError
from tests.envs.toys import Toy, box


def test_a_picture_is_the_environments_own(make_toy):
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    env.step(torch.tensor([0, 2]))
    assert env.render(1).tolist() == np.full((2, 3, 3), 12).tolist()
    assert env.render(0).tolist() == np.full((2, 3, 3), 10).tolist()


def test_an_environment_without_pictures_is_refused_where_they_are_asked_for(make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "metadata", {"render_modes": ["ansi"]})
    with pytest.raises(ValueError, match="AuxgateToy-v0 cannot be drawn: it has no picture"):
        make_toy(box((7,), np.float32), render=True)


def test_a_picture_that_needs_a_missing_package_is_refused_with_the_reason(make_toy, monkeypatch):
    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(Toy, "render", render)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(ValueError, match="AuxgateToy-v0 cannot be drawn: pygame is not installed"):
        env.render()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (None, "returned nothing instead of a picture"),
        ([np.zeros((2, 3, 3), np.uint8)], "returned a list instead"),
        (np.zeros((2, 3, 3)), r"returned float64 of shape \(2, 3, 3\) instead"),
        (np.zeros((2, 0, 3), np.uint8), r"returned uint8 of shape \(2, 0, 3\) instead"),
        (np.zeros((2, 3, 5), np.uint8), r"returned uint8 of shape \(2, 3, 5\) instead"),
    ],
)
def test_what_is_no_picture_is_refused(picture, said, make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "render", lambda self: picture)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(PictureError, match=said):
        env.render()


def test_an_error_of_its_own_while_drawing_is_told_in_a_sentence(make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "render", lambda self: 1 / 0)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(PictureError, match="AuxgateToy-v0 cannot be drawn: division by zero"):
        env.render()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 4)])
def test_grey_and_transparent_pictures_become_colours(shape, make_toy, monkeypatch):
    picture = np.full(shape, 9, np.uint8)
    monkeypatch.setattr(Toy, "render", lambda self: picture)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    assert env.render().tolist() == np.full((2, 3, 3), 9).tolist()
