"""The list of games, by whoever can play them here."""

import pytest

from envs.atari import games as atari_games
from envs.atari.games import PACKAGES, STANDARD_GAMES, installed_backends


def test_the_standard_games_are_57():
    assert len(STANDARD_GAMES) == len(set(STANDARD_GAMES)) == 57


def test_envpool_comes_first_where_both_are_installed(installed):
    installed("envpool", "ale_py")
    assert installed_backends() == ("envpool", "ale")
    installed("ale_py")
    assert installed_backends() == ("ale",)
    installed("envpool")
    assert installed_backends() == ("envpool",)
    installed()
    assert installed_backends() == ()


def test_every_backend_has_its_package():
    assert PACKAGES == {"envpool": "envpool", "ale": "ale_py"}


@pytest.mark.atari
@pytest.mark.parametrize("package", ["envpool", "ale_py"])
def test_the_standard_games_are_among_those_of_either_backend(installed, package):
    installed(package)
    games = atari_games.atari_games()
    assert set(STANDARD_GAMES) < set(games)
    assert all(game.isalnum() for game in games)


def test_without_any_backend_the_standard_games_are_known(installed):
    installed()
    assert atari_games.atari_games() == STANDARD_GAMES
