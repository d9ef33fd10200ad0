"""Presets as the command line shows and takes them."""

import pytest

from configs import presets
from configs.cli import parse
from tests.configs.command_lines import complaint, parsed


def test_presets_are_shown_as_the_flags_that_they_stand_for(capsys):
    for words in (["--preset"], ["--env", "Gridworld", "--preset"]):
        with pytest.raises(SystemExit) as ended:
            parse(words)
        assert ended.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "gridworld, a2c, unless --algo says otherwise --torso mlp --steps 8000000" in shown
        assert "--algo.a2c.value-coefficient 0.05" in shown
        assert ("atari, ppo" in shown) == (len(words) == 1)


EXAMPLES = {
    "atari": "Breakout",
    "catch": "Catch",
    "gridworld": "Gridworld",
    "gym": "CartPole-v1",
    "procgen": "procgen/coinrun",
    "minigrid": "minigrid/Empty-8x8",
    "envpool": "envpool/CartPole-v1",
}


@pytest.mark.parametrize(("family", "algo", "given", "source"), [*presets.listing()])
def test_the_flags_of_a_preset_make_the_config_that_it_makes(family, algo, given, source):
    base = ["--env", EXAMPLES[family], "--algo", algo]
    assert parse([*base, *given.split()]) == parse(base)
    assert source


BREAKOUT = "--env Breakout --aux none"


def numbers(line):
    run = parsed(line).run
    return run.num_envs, run.learning_rate, run.pipeline


USUAL, FOR_GPU = (32, 1.5e-3, False), (128, 3e-3, True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", USUAL),
        ("--device cuda:1", USUAL),
        ("--preset gpu", FOR_GPU),
        ("--preset gpu --num-envs 256 --no-pipeline", (256, 3e-3, False)),
    ],
)
def test_the_preset_for_a_gpu_is_that_of_those_who_ask_for_it(flags, expected):
    assert numbers(f"{BREAKOUT} {flags}") == pytest.approx(expected)


def test_gridworlds_step_on_the_gpu_themselves_and_need_no_pipeline():
    assert numbers("--env Gridworld") == (64, 2e-3, False)
    # Eight times the rate for 64 times the environments.
    assert numbers("--env Gridworld --preset gpu") == (4_096, pytest.approx(0.016), False)


def test_a_run_on_a_gpu_is_told_of_its_preset_unless_it_has_numbers_of_its_own():
    said = presets.hint_on_gpu("atari", "a2c", 32)
    assert said.endswith("--preset gpu stands for --num-envs 128 --pipeline --learning-rate 0.003.")
    assert presets.hint_on_gpu("atari", "a2c", 128) == ""
    assert presets.hint_on_gpu("catch", "a2c", 32) == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--env Catch --preset gpu", "--preset gpu has no effect: a2c in catch"),
        ("--env Catch --preset tpu", "gpu takes the numbers for a GPU"),
        ("--env Catch --preset gpu --preset gpu", "is given 2 times"),
    ],
)
def test_a_preset_that_there_is_not_is_refused(flags, said):
    assert said in complaint(flags)
