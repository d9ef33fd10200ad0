"""Fixtures of the Atari tests."""

import pytest
import torch

from envs.atari import games as atari_games
from envs.atari.config import AtariConfig


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
