"""Tries the figure of multiplied rewards on runs of some updates."""

import gymnasium
import pytest

from benchmarks import reward_scale
from experiments.results import read_table


def test_the_figure_is_made_from_short_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reward_scale, "TASKS", {"Gridworld": 4096})
    monkeypatch.setattr(reward_scale, "FACTORS", {100.0: "#000000"})
    runs, output = tmp_path / "runs", tmp_path / "output"
    line = ["--tasks", "Gridworld", "--seeds", "1", "--runs", str(runs), "--output", str(output)]
    assert reward_scale.main(line) == 0
    assert {path.name for path in output.iterdir()} == {
        "curves.csv",
        "summary.csv",
        "reward_scale.png",
    }
    (row,) = read_table(output / "summary.csv")[1]
    # Returns are given in units of the plain task, whose rewards are 10 at most.
    assert -20 < float(row["final"]) < 10


def test_rewards_of_cartpole_are_multiplied():
    env = gymnasium.make("ScaledCartPole-v1", factor=100.0)
    env.reset(seed=0)
    assert env.step(0)[1] == 100


def test_an_unknown_task_is_one_sentence(capsys):
    assert reward_scale.main(["--tasks", "Chess"]) == 2
    assert (
        capsys.readouterr().err
        == "reward_scale.py: --tasks Chess: choose from CartPole, Gridworld.\n"
    )


@pytest.mark.parametrize("factor", reward_scale.FACTORS)
def test_a_factor_multiplies_all_rewards_of_the_gridworld(factor):
    flags = reward_scale.flags("Gridworld", factor)
    first = flags.index("--env.terminal-rewards") + 1
    assert [float(each) / factor for each in flags[first : first + 4]] == [10, 5, -5, -10]
    assert float(flags[flags.index("--env.penalty") + 1]) / factor == -1
