from dataclasses import fields, replace

import pytest
import torch

from agents.algorithms import PPGConfig, PPOConfig
from agents.networks.torsos import Torsos
from configs import presets
from configs.choice import Choice, choose, component, names
from configs.presets import BY_OBSERVATION, PRESETS, Preset, preset, untuned, usual_torso
from configs.training import RunOptions, defaults
from envs import EnvFamilies


def test_every_family_has_its_numbers():
    # Several tasks have those of the first.
    assert {*PRESETS, "tasks"} == {family.name for family in fields(EnvFamilies)}


@pytest.mark.parametrize("algo", [None, *names("algo")])
@pytest.mark.parametrize("family", PRESETS)
def test_a_preset_chooses_what_there_is_and_what_a_run_accepts(family, algo):
    numbers = preset(family, algo)
    assert numbers.algo in names("algo")
    assert numbers.torso in (BY_OBSERVATION, *names("torso"))
    run = RunOptions(**numbers.run)
    assert (run.steps, run.num_envs) == (numbers.steps, numbers.num_envs)


def test_the_games_get_the_published_budget():
    assert preset("atari").steps == 10_000_000


def test_an_algorithm_may_have_numbers_of_its_own():
    assert preset("atari", "ppo").unroll_length == 128
    assert preset("atari", "ppo").steps == preset("atari").steps
    assert preset("atari", preset("atari").algo) == preset("atari")


def test_without_a_main_loss_the_numbers_are_those_to_compare_with():
    assert replace(preset("catch", "none"), algo="a2c") == preset("catch")


def test_a_family_or_algorithm_that_nobody_tuned_gets_neutral_numbers_and_says_so():
    numbers = preset("maze")
    assert (numbers.algo, numbers.torso, numbers.steps) == ("a2c", "mlp", 1_000_000)
    said = untuned("maze", "a2c")
    assert said.startswith("There is no preset for a2c in maze: ")
    assert "1,000,000 steps, --num-envs 32, --unroll-length 16, --learning-rate 0.001" in said
    other = preset("catch", "mine")
    assert (other.num_envs, other.unroll_length, other.learning_rate) == (32, 16, 1e-3)
    assert other.steps == preset("catch").steps  # the family's budget, whatever the algorithm
    assert "mine in catch" in untuned("catch", "mine")
    assert "steps, " not in untuned("catch", "mine")


@pytest.mark.parametrize("algo", names("algo"))
@pytest.mark.parametrize("family", PRESETS)
def test_the_packages_own_algorithms_are_tuned_in_its_own_families(family, algo):
    known = algo != "a2c" or family not in ("procgen", "minigrid")
    assert (untuned(family, algo) == "") == known


@pytest.mark.parametrize("algo", names("algo"))
@pytest.mark.parametrize("family", PRESETS)
def test_a_preset_sets_options_that_its_algorithm_has(family, algo):
    numbers = preset(family, algo)
    config = replace(component("algo", algo), **numbers.options)
    assert all(getattr(config, name) == value for name, value in numbers.options.items())


def test_procgen_has_the_papers_numbers():
    choice, _ = choose(["--env", "procgen/coinrun"])
    config = defaults(choice)
    assert (choice.algo, choice.torso) == ("ppo", "impala")
    assert (config.run.num_envs, config.run.unroll_length) == (64, 256)
    assert config.run.learning_rate == config.run.learning_rate_end == 5e-4
    assert (config.algo.epochs, config.algo.minibatches, config.algo.clip) == (3, 8, 0.2)


def test_a_plugin_gives_a_family_and_an_algorithm_their_numbers(monkeypatch):
    monkeypatch.setattr(presets, "_added", {})
    maze = Preset("ppo", "impala", 9, 8, 7, learning_rate=0.5)
    presets.register("maze", maze)
    assert preset("maze") == preset("maze", "ppo") == maze
    assert untuned("maze", "ppo") == ""
    assert preset("maze", "a2c").num_envs == presets.NEUTRAL["num_envs"]
    mine = Preset("mine", "mlp", 5, 4, 3, learning_rate=0.1)
    presets.register("catch", mine)
    assert preset("catch", "mine") == mine
    assert preset("catch").algo == "a2c"
    for family, numbers in (("maze", maze), ("catch", preset("catch"))):
        with pytest.raises(ValueError, match=f"{numbers.algo} in {family} is taken"):
            presets.register(family, numbers)


def test_a_preset_sets_the_options_of_its_algorithm_and_of_no_other():
    chosen = Choice("Gridworld", "gridworld", "a2c", "mlp", (), None)
    assert defaults(chosen).algo.value_coefficient == 0.05
    assert defaults(replace(chosen, algo="ppo")).algo == PPOConfig(clip=0.2, value_coefficient=0.2)
    assert defaults(replace(chosen, algo="ppg")).algo == PPGConfig()
    assert preset("gym", "a2c").options == {}


@pytest.mark.parametrize(
    ("shape", "num_symbols", "name"),
    [
        ((3, 7, 7), 0, "small"),  # MiniGrid
        ((4, 10, 10), 0, "small"),  # MinAtar
        ((1, 40, 40), 0, "small"),
        ((3, 64, 64), 0, "impala"),  # Procgen
        ((4, 84, 84), 0, "nature"),
        ((3, 210, 160), 0, "nature"),
        ((3, 2, 9), 0, "mlp"),
        ((40, 40), 0, "mlp"),
        ((4,), 0, "mlp"),
        ((10, 7, 7), 9, "mlp"),
    ],
)
def test_the_usual_torso_suits_the_observation_and_can_be_built(shape, num_symbols, name):
    assert usual_torso(shape, num_symbols) == name
    built = getattr(Torsos(), name).build(shape, num_symbols)
    assert built(torch.zeros(2, *shape, dtype=torch.uint8)).features.shape == (
        2,
        built.num_features,
    )
