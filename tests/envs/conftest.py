"""Fixtures of the environments' tests: Atari's games, and a toy of Gymnasium."""

import gymnasium
import pytest
import torch
from gymnasium import spaces

from envs.atari import games as atari_games
from envs.atari.config import AtariConfig
from envs.gym import GymConfig
from tests.envs.toys import Toy


@pytest.fixture(params=["envpool", "ale"])
def backend(request):
    return request.param


@pytest.fixture
def installed(monkeypatch):
    """Lets only some packages of emulators be found."""

    def installed(*packages):
        monkeypatch.setattr(
            atari_games, "find_spec", lambda name: name if name in packages else None
        )

    return installed


@pytest.fixture
def build_game():
    """Builds games and closes them at the end; B = 3, Breakout."""
    built = []

    def build_game(game="Breakout", num_envs=3, seed=0, render=False, **options):
        config = AtariConfig(**options)
        built.append(config.build(game, num_envs, seed, torch.device("cpu"), render))
        return built[-1]

    yield build_game
    for env in built:
        env.close()


@pytest.fixture
def play_until_over():
    """Repeats `actions` (FIRE by default) until the first game is over; returns all steps."""

    def play_until_over(env, actions=(1,), limit=2000):
        env.reset()
        steps = []
        while not (steps and steps[-1].ended[0]) and len(steps) < limit:
            action = actions[len(steps) % len(actions)]
            steps.append(env.step(torch.full((env.spec.num_envs,), action)))
        assert steps[-1].ended[0]
        return steps

    return play_until_over


@pytest.fixture
def make_toy():
    """Registers a toy environment and builds two of it."""

    def make(space, sample=None, actions=None, options=None, render=False, **ends):
        arguments = {
            "sample": space.sample() if sample is None else sample,
            "space": space,
            "actions": actions or spaces.Discrete(3),
            **ends,
        }
        gymnasium.registry.pop("AuxgateToy-v0", None)
        gymnasium.register(
            "AuxgateToy-v0",
            lambda render_mode=None: Toy(render_mode, **arguments),
            # It would warn of images of unusual size.
            disable_env_checker=True,
        )
        config = GymConfig(**(options or {}))
        return config.build("AuxgateToy-v0", 2, 0, torch.device("cpu"), render)

    yield make
    gymnasium.registry.pop("AuxgateToy-v0", None)
