"""One environment of every family, on which `test_every_env.py` tries the contract."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch

from envs.envpool.procgen import ProcgenConfig
from gridworld import WALL
from tests.envs.qt import NEEDS_QT

CPU = torch.device("cpu")
B = 3
LEVELS = 97
EMULATED = ("procgen", "minigrid", "envpool", "atari")


def starts_catch(observation):
    return bool(observation[0].any())  # the ball is in the top row


def starts_gridworld(observation):
    # Where all is seen and no wall is inside, the border frames the window at the centre alone.
    inside = observation[1:-1, 1:-1]
    return int((observation == WALL).sum()) == observation.numel() - inside.numel() and not bool(
        (inside == WALL).any()
    )


def starts_cartpole(observation):
    return bool((observation.abs() <= 0.05).all())  # Gymnasium draws from +-0.05


def starts_envpool(observation):
    return bool((observation == observation[0]).all())  # a reset fills the stack with one frame


def starts_ale(observation):
    return not observation[:-1].any() and bool(observation[-1].any())  # older frames are black


@functools.cache
def first_frames():
    """The first observations of Leaper's levels, each of which opens alike whatever the seed."""
    frames = set()
    for level in range(LEVELS):
        config = ProcgenConfig(levels=1, start_level=level)
        env = config.build("procgen/leaper", 1, 0, CPU)
        frames.add(env.reset().numpy().tobytes())
        env.close()
    return frames


def starts_leaper(observation):
    return observation.numpy().tobytes() in first_frames()


def starts_lava_gap(observation):
    # At the upper left corner of 5 x 5 cells, looking right: only there is a wall to the left
    # and the wall ahead so far away, which is planes 2 (wall) and 20 (right).
    wall = observation[2]
    return bool(observation[20].all() and wall[6, 2] and wall[1, 3] and not wall[2:, 3].any())


@dataclass(frozen=True)
class Example:
    """One environment of a family, and how to tell the first observation of an episode."""

    family: str
    name: str
    starts: Callable[[torch.Tensor], bool]
    options: Mapping[str, object] = field(default_factory=dict)


EXAMPLES = {
    "catch": Example("catch", "Catch", starts_catch),
    "gridworld": Example(
        "gridworld",
        "Gridworld",
        starts_gridworld,
        # Five moves from the centre meet no wall, and an odd number of them leads away from it.
        # With few terminal cells, none within five moves of seeds 0, 1 and 3.
        {"height": 13, "width": 13, "layout": "empty", "view_radius": 6, "num_worlds": 16}
        | {"termination_probability": 0.0, "terminal_probability": 0.006, "world_seed": 43},
    ),
    "gym": Example("gym", "CartPole-v1", starts_cartpole),
    "procgen": Example("procgen", "procgen/leaper", starts_leaper, {"levels": LEVELS}),
    "minigrid": Example("minigrid", "minigrid/LavaGapS7", starts_lava_gap),
    "envpool": Example("envpool", "envpool/CartPole-v1", starts_cartpole, {"pools": B}),
    "tasks": Example("tasks", "Catch+Catch(mirrored=True)", starts_catch, {"share": (2, 1)}),
    # Each environment a part of its own.
    "atari-envpool": Example(
        "atari", "Breakout", starts_envpool, {"backend": "envpool", "pools": B}
    ),
    "atari-ale": Example("atari", "Breakout", starts_ale, {"backend": "ale"}),
}

NAMES = [
    pytest.param(
        name,
        marks=[pytest.mark.atari] * (example.family in EMULATED)
        + [NEEDS_QT] * (example.family == "procgen"),
    )
    for name, example in EXAMPLES.items()
]
"""Of all examples, marked by what they need."""
