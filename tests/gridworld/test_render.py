"""Pictures show what is where."""

import numpy as np
import pytest
import torch

from gridworld import WorldConfig, film, image, parse

CONFIG = WorldConfig(height=4, width=6, terminal_rewards=(10.0, 5.0, -10.0))


@pytest.fixture
def worlds():
    return parse(CONFIG, ["######\n#S.-A#\n#..BC#\n######", "######\n#..-A#\n#S.BC#\n######"])


def tile(picture, row, column, scale):
    return picture[row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]


def test_each_kind_has_a_colour_of_its_own(worlds):
    picture = image(worlds, 0, scale=8)
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8
    # Wall, start, empty, penalty, +10, +5, -10: each tile in one colour.
    places = [(0, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4)]
    colours = [np.unique(tile(picture, *place, 8).reshape(-1, 3), axis=0) for place in places]
    assert all(len(colour) == 1 for colour in colours)
    assert len({tuple(colour[0]) for colour in colours}) == 7


def test_gains_are_green_losses_red_and_stronger_if_larger(worlds):
    picture = image(worlds, 0, scale=4).astype(int)
    ten, five, loss = (tile(picture, *place, 4)[0, 0] for place in [(1, 4), (2, 3), (2, 4)])
    assert ten.argmax() == five.argmax() == 1
    assert loss.argmax() == 0
    assert ten[0] < five[0]


def test_the_agent_is_drawn_where_it_is(worlds):
    bare, picture = image(worlds, 0), image(worlds, 0, cell=2 * 6 + 2)
    changed = (bare != picture).any(-1)
    assert tile(changed, 2, 2, 16).sum() == changed.sum() > 50


def test_arrows_point_where_the_policy_goes(worlds):
    # All of it to the right, in a world of 4 x 6.
    policy = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(24, 4)
    changed = (image(worlds, 0) != image(worlds, 0, policy=policy)).any(-1)
    arrow = tile(changed, 1, 2, 16)
    assert arrow[:, 8:].sum() == arrow.sum() > 10
    # Symmetric between top and bottom, and narrower towards its tip.
    assert np.array_equal(arrow, arrow[::-1])
    widths = arrow.sum(0)[arrow.any(0)]
    assert (np.diff(widths) <= 0).all()
    assert widths[0] > widths[-1]
    # None on walls or where the episode is over.
    assert not tile(changed, 0, 0, 16).any()
    assert not tile(changed, 1, 4, 16).any()


@pytest.mark.parametrize(("action", "turns"), [(0, 1), (2, 3), (3, 2)])
def test_other_arrows_are_that_one_turned(worlds, action, turns):
    def arrow(action):
        policy = torch.eye(4)[action].expand(24, 4)
        changed = (image(worlds, 0) != image(worlds, 0, policy=policy)).any(-1)
        return tile(changed, 2, 2, 16)

    # rot90 turns counter-clockwise.
    assert np.array_equal(arrow(action), np.rot90(arrow(1), turns))


def test_likelier_actions_are_darker(worlds):
    policy = torch.tensor([0.7, 0.3, 0.0, 0.0]).expand(24, 4)
    shades = np.unique(tile(image(worlds, 0, policy=policy), 1, 2, 16)[..., 0])
    # Up, right and the ground.
    assert len(shades) == 3


def test_a_film_shows_every_state_in_its_world(worlds):
    states = [7, 8, 24 + 13]
    pictures = film(worlds, torch.tensor(states), scale=5)
    assert pictures.shape == (3, 20, 30, 3)
    for picture, (number, cell) in zip(pictures, [(0, 7), (0, 8), (1, 13)], strict=True):
        assert np.array_equal(picture, image(worlds, number, cell, scale=5))


def test_cells_too_small_to_see_are_refused(worlds):
    with pytest.raises(ValueError, match="scale must be at least 4 pixels"):
        image(worlds, 0, scale=3)
