"""From a config to its command and back, and its options by flag."""

import shlex

import pytest

from experiments.report.command import command, options

LINES = (
    "--env Breakout",
    "--env Breakout --seed 3 --aux distill --gate cosine --gate.scope layer --num-envs 4",
    "--env Breakout --aux distill --gate projection --gate.projection.decay 0.99 --teacher t/a",
    "--env Breakout --algo none --aux distill --gate sum --env.no-episodic-life",
    "--env Catch --env.rows 4 --torso.mlp.widths 7 5 --steps 99 --algo.a2c.normalize-advantage",
    "--env CartPole-v1 --aux distill --teacher t/b --aux.distill.coefficient-end 0.5 "
    "--aux.distill.coefficient-steps 9 --discount 0.5",
)


@pytest.mark.parametrize("line", LINES)
def test_the_command_makes_the_same_config_again(line, config_of):
    config = config_of(line)
    words = shlex.split(command(config))
    assert words[:2] == ["python", "train.py"]
    assert config_of(shlex.join(words[2:])) == config


def test_the_command_leaves_out_what_is_the_default_and_where_it_ran(config_of):
    config = config_of("--env Catch --device cpu --run-dir here --log-steps 9 --discount 0.9")
    words = shlex.split(command(config))
    assert words[words.index("--discount") + 1] == "0.9"
    for flag in ("--device", "--run-dir", "--log-steps", "--max-gradient-norm", "--gate"):
        assert flag not in words
    # What a reader looks for first is said even so.
    assert words[words.index("--learning-rate") + 1] == str(config["run"]["learning_rate"])


def test_an_option_younger_than_the_config_has_its_default(config_of):
    config = config_of("--env Breakout --aux distill --aux.distill.temperature 1.0")
    complete = options(config)
    del config["heads"]["distill"]["temperature"]
    del config["env"]["frame_stack"]
    assert options(config) == complete
    assert complete["aux.distill.temperature"] == 1.0
    assert complete["env.frame_stack"] == 4


def test_options_of_a_component_that_this_version_does_not_know_are_kept(config_of):
    config = config_of("--env Breakout --aux distill --gate cosine")
    config["choice"]["gate"] = "forgotten"
    config["gate"] = {"strength": 2}
    assert options(config)["gate.forgotten.strength"] == 2
    assert "--gate.forgotten.strength 2" in command(config)


def test_options_that_change_no_game_and_no_number_are_no_options_of_what_is_learnt(config_of):
    found = options(config_of("--env Breakout --env.num-threads 3 --threads 1 --device cpu"))
    assert not {"env.num_threads", "threads", "device", "run_dir"} & set(found)
    # Without heads nothing is judged, so the gate's options mean nothing.
    assert not any(flag.startswith("gate.") for flag in found)


def test_an_option_of_an_algorithm_that_is_younger_than_the_config_is_as_it_was_then(config_of):
    config = config_of("--env minigrid/Empty-8x8 --algo ppo")
    assert options(config)["algo.ppo.advantage_floor"] > 0
    del config["algo"]["advantage_floor"]
    assert options(config)["algo.ppo.advantage_floor"] == 0.0
    assert "--algo.ppo.advantage-floor 0.0" in command(config)


def test_the_command_names_plugins(config_of):
    config = config_of("--env Catch")
    config["plugins"] = ["my.plugin", "other"]
    assert "--plugin my.plugin --plugin other" in command(config)
