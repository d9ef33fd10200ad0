from dataclasses import fields, replace
from importlib import import_module

import jaxtyping
import pytest
import torch

from envs.gridworld.config import HELD_OUT_WORLDS, GridConfig
from gridworld import WorldConfig

CPU = torch.device("cpu")
SMALL = {"height": 6, "width": 7, "num_worlds": 8, "terminal_probability": 0.05}


def build(num_envs=3, seed=0, render=False, **options):
    return GridConfig(**SMALL | options).build("Gridworld", num_envs, seed, CPU, render)


def test_every_setting_of_the_worlds_is_an_option_with_the_same_default():
    options = {field.name: field.default for field in fields(GridConfig)}
    settings = {field.name: field.default for field in fields(WorldConfig)}
    assert {name: options[name] for name in settings} == settings
    assert GridConfig().worlds() == WorldConfig()


def test_options_reach_the_worlds():
    worlds = GridConfig(max_episode_steps=9, layout="maze", penalty=-0.5, view_radius=2).worlds()
    assert worlds == WorldConfig(max_episode_steps=9, layout="maze", penalty=-0.5, view_radius=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_worlds": 0}, "^num_worlds must be at least 1, not 0"),
        ({"first_world": -1}, "^first_world must be 0 or more"),
        ({"first_world": 2**32 - 3}, r"last world's number below 2\*\*32; it is 4294967293"),
        ({"world_seed": -1}, "^world_seed must be 0 or more"),
        ({"world_seed": 2**63}, "^world_seed must be 0 or more"),
        ({"without_copies_of": 1}, "at most first_world 0, not 1"),
        ({"first_world": 4, "without_copies_of": -1}, "must be 0 or more and at most"),
        ({"max_episode_steps": -1}, "^max_episode_steps must be 0"),
        ({"layout": "castle"}, "^layout must be one of scattered, rooms"),
        ({"height": 2}, "^height must be at least 3 for layout scattered, not 2"),
        ({"width": 10, "layout": "maze"}, "^width must be an odd number"),
        ({"action_noise": 1.5}, "^action_noise must be a probability"),
        ({"view_radius": -1}, "^view_radius must be 0 or more"),
        ({"penalty": 1.0}, "^penalty must be 0 or less, .* among terminal_rewards"),
        ({"height": 3, "width": 3}, "room for a reward beside its start: use a height"),
        ({"terminal_rewards": (-1.0,)}, "give terminal_rewards a positive one"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_their_name(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        GridConfig(**options)
    assert "\n" not in str(refused.value)


def test_an_unknown_encoding_is_refused(monkeypatch):
    # Else the checked annotation would refuse it first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"^observation must be symbols, one-hot or flat"):
        GridConfig(observation="pixels")


def test_worlds_that_cannot_be_made_are_refused_by_their_names(monkeypatch):
    monkeypatch.setattr(import_module("gridworld.generate"), "MOST_ATTEMPTS", 3)
    options = {"terminal_rewards": (1.0,), "terminal_probability": 1e-9, "num_worlds": 1}
    with pytest.raises(ValueError, match=r"World 0 of seed 0 .* higher terminal_prob"):
        build(**options)


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype", "num_symbols"),
    [
        # Empty, wall, penalty and four terminal rewards: seven kinds; 2 * 2 + 1 = 5 cells across.
        ("symbols", (5, 5), torch.uint8, 7),
        ("one-hot", (7, 5, 5), torch.float32, 0),
        ("flat", (175,), torch.float32, 0),
    ],
)
def test_an_observation_is_a_window_in_the_encoding_asked_for(encoding, shape, dtype, num_symbols):
    env = build(observation=encoding, view_radius=2)
    assert env.spec.observation_shape == shape
    assert env.spec.observation_dtype == dtype
    assert env.spec.num_symbols == num_symbols
    assert env.reset().shape == (3, *shape)


def test_options_are_part_of_the_protocol_and_held_out_worlds_are_named():
    assert GridConfig().protocol == "raw"
    assert GridConfig().held_out().protocol == "raw+held-out"
    assert build().spec.protocol == "raw+num_worlds=8+height=6+width=7+terminal_probability=0.05"
    held_out = GridConfig(**SMALL).held_out()
    assert held_out.protocol == "raw+held-out+height=6+width=7+terminal_probability=0.05"


def test_held_out_worlds_come_after_the_pool_and_leave_out_its_copies():
    held_out = GridConfig(num_worlds=20, first_world=5, layout="rooms").held_out()
    assert (held_out.first_world, held_out.num_worlds) == (25, HELD_OUT_WORLDS)
    assert held_out.without_copies_of == 20
    assert held_out.layout == "rooms"
    last = GridConfig(num_worlds=20, first_world=2**32 - 30).held_out()
    assert (last.first_world, last.num_worlds) == (2**32 - 10, 10)


def test_the_name_of_the_worlds_tells_what_they_are_made_of_and_nothing_else():
    names = [
        GridConfig(**SMALL | options).world_set
        for options in (
            {},
            {"num_worlds": 9},
            {"first_world": 1},
            {"first_world": 1, "without_copies_of": 1},
            {"world_seed": 1},
            {"penalty": -2.0},
        )
    ]
    assert len(set(names)) == len(names)
    assert names[0] == (
        "8 worlds from number 0 of seed 0+height=6+width=7+terminal_probability=0.05"
    )
    assert GridConfig(**SMALL, observation="flat").world_set == names[0]


def test_the_seed_of_the_run_changes_no_world():
    one, other = build(seed=1), build(seed=2)
    assert torch.equal(one.snapshot()["worlds"], other.snapshot()["worlds"])
    another = replace(GridConfig(**SMALL), world_seed=1).build("Gridworld", 3, 1, CPU)
    assert not torch.isin(another.snapshot()["worlds"], one.snapshot()["worlds"]).any()
