"""Settings that make no sense are refused in one sentence that names the cure."""

import jaxtyping
import pytest

from gridworld import WorldConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "spiral"}, "layout must be one of scattered, rooms, maze, empty, not spiral"),
        ({"height": 2}, "height must be at least 3 for layout scattered, not 2"),
        ({"width": 2}, "width must be at least 3 for layout scattered, not 2"),
        ({"layout": "rooms", "width": 4}, "width must be at least 5 for layout rooms"),
        ({"layout": "maze", "height": 8}, "height must be an odd number of at least 3"),
        ({"height": 3, "width": 3}, "no room for a reward beside its start"),
        ({"height": 200, "width": 200}, "at most 32768, not 40000"),
        ({"wall_probability": 1.5}, "wall_probability must be a probability"),
        ({"action_noise": -0.1}, "action_noise must be a probability"),
        ({"termination_probability": NAN}, "termination_probability must be a probability"),
        ({"penalty_probability": -0.1}, "must be 0 or more"),
        ({"terminal_probability": 0.3}, "sum to 1.3: lower them"),
        ({"terminal_probability": NAN}, "sum to nan"),
        ({"terminal_probability": 0.0}, "No world would hold a positive reward"),
        ({"terminal_rewards": (-1.0, -2.0)}, "No world would hold a positive reward"),
        ({"terminal_rewards": ()}, "No world would hold a positive reward"),
        ({"terminal_rewards": (1.0, NAN)}, "at most 25 finite numbers"),
        ({"terminal_rewards": (1.0,) * 26}, "at most 25 finite numbers"),
        ({"penalty": 0.5}, "penalty must be 0 or less, not 0.5: .* put it among terminal_rewards"),
        ({"penalty": NAN}, "penalty must be 0 or less"),
        ({"max_episode_steps": -1}, "max_episode_steps must be 0"),
        ({"view_radius": -1}, "view_radius must be 0 or more"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": 1.1}, "discount must be above 0"),
        ({"discount": 1.0, "termination_probability": 0.0}, "Returns need not be finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**options)


def test_an_unknown_start_is_refused(monkeypatch):
    # In tests the annotations would refuse it first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="start must be centre or random, not corner"):
        WorldConfig(start="corner")


def test_what_follows_from_the_options():
    config = WorldConfig(height=6, width=7, view_radius=2, terminal_rewards=(3.0, -2.0))
    assert config.cells == 42
    assert config.view_size == 5
    # Empty, wall, penalty, then the terminal ones.
    assert config.kind_rewards == (0.0, 0.0, -1.0, 3.0, -2.0)
    assert config.num_kinds == 5
    assert config.offsets == (-7, 1, 7, -1)


@pytest.mark.parametrize(
    ("layout", "probability"), [("scattered", 0.1), ("rooms", 0), ("maze", 0), ("empty", 0)]
)
def test_scattered_walls_are_the_layouts_own_unless_set(layout, probability):
    assert WorldConfig(layout=layout).scattered == probability
    assert WorldConfig(layout=layout, wall_probability=0.05).scattered == 0.05


def test_the_smallest_world_holds_a_start_and_a_reward():
    assert WorldConfig(height=3, width=4).cells == 12
