from dataclasses import fields

import pytest

from agents.algorithms import Algorithms
from agents.networks.torsos import Torsos
from configs.choice import names
from configs.presets import PRESETS, preset
from configs.training import RunOptions
from envs import EnvFamilies


def test_every_family_has_its_numbers():
    assert set(PRESETS) == {family.name for family in fields(EnvFamilies)}


@pytest.mark.parametrize("algo", [None, *names(Algorithms)])
@pytest.mark.parametrize("family", PRESETS)
def test_a_preset_chooses_what_there_is_and_what_a_run_accepts(family, algo):
    numbers = preset(family, algo)
    assert numbers.algo in names(Algorithms)
    assert numbers.torso in names(Torsos)
    run = RunOptions(**numbers.run)
    assert (run.steps, run.num_envs) == (numbers.steps, numbers.num_envs)


def test_the_games_get_the_published_budget():
    assert preset("atari").steps == 10_000_000


def test_an_algorithm_may_have_numbers_of_its_own():
    assert preset("atari", "ppo").unroll_length == 128
    assert preset("atari", "ppo").steps == preset("atari").steps
    assert preset("atari", preset("atari").algo) == preset("atari")
