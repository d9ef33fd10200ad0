"""Tries the comparison on curves written by hand and on our own side, without the peers."""

import io

import gymnasium
import numpy as np
import pytest

from benchmarks import learners, learning
from benchmarks.learners import Recorded, Recorder, Task


class Countdown(gymnasium.Env):
    """Episodes of four steps with rewards 1, 2, 3, 4."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **options):
        self.made = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.made += 1
        return np.zeros(1, np.float32), self.made, self.made == 4, False, {}


def test_a_recorder_writes_the_mean_of_finished_episodes_by_steps_of_all_environments():
    file = io.StringIO()
    recorder = Recorder(file, steps=400, num_envs=2)
    pair = [Recorded(Countdown(), recorder) for _ in range(2)]
    for env in pair:
        env.reset()
    for _ in range(2):
        for env in pair:
            for _ in range(4):
                env.step(0)
            env.reset()
    lines = [line.split(",") for line in file.getvalue().splitlines()]
    assert [(line[0], line[2]) for line in lines] == [("8", "10.0000"), ("16", "10.0000")]
    assert all(float(line[1]) >= 0 for line in lines)


def test_a_linear_schedule_ends_at_zero_and_numbers_stay():
    schedule = learners._schedule("lin_1e-3")
    assert (schedule(1.0), schedule(0.0)) == (pytest.approx(1e-3), 0)
    assert learners._schedule(0.5) == 0.5


def write(folder, task, side, seed, returns):
    steps = learners.TASKS[task].steps
    lines = [f"{int(steps * (i + 1) / 4)},{i + 1}.0,{value}" for i, value in enumerate(returns)]
    path = folder / f"{task}-{side}-s{seed}.csv"
    path.write_text("\n".join([learners.COLUMNS, *lines]) + "\n")


def test_tables_and_figure_are_made_from_curves_that_are_there(tmp_path, capsys):
    runs, output = tmp_path / "runs", tmp_path / "output"
    runs.mkdir()
    for seed in (1, 2):
        write(runs, "CartPole-v1", "auxgate", seed, [1, 2, 3, 400 + seed])
        write(runs, "CartPole-v1", "sb3-ppo", seed, [1, 2, 3, 200])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    given = ["--tasks", "CartPole-v1", "--sides", "auxgate", "sb3-ppo", "--seeds", "2"]
    given += ["--runs", str(runs), "--output", str(output), "--peers", str(tmp_path)]
    assert learning.main(given) == 0
    lines = [line for line in (output / "summary.csv").read_text().splitlines() if line[0] != "#"]
    ours, theirs = (
        dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]
    )
    # The last tenth of a line from 3 at three quarters to 401.5 at the end.
    assert float(ours["final"]) == pytest.approx(3 + (1 - 0.1 / 2 / 0.25) * 398.5, rel=1e-2)
    assert float(theirs["final"]) < float(ours["final"])
    assert ours["seeds"] == "2"
    assert (output / "learning.png").stat().st_size > 10_000
    assert len((output / "curves.csv").read_text().splitlines()) == 4 * 4 + 1 + 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tasks", "Pong"], "--tasks Pong: choose from CartPole-v1"),
        (["--sides", "rllib"], "--sides rllib: choose from auxgate"),
        (["--sides", "auxgate", "--seeds", "0"], "at least 1"),
        ([], "--cleanrl is missing"),
    ],
)
def test_mistakes_are_told_in_a_sentence(given, said, capsys):
    assert learning.main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.seconds
def test_our_side_writes_the_curve_of_a_run(tmp_path):
    task = Task("", 2_000, ("--env", "Catch", "--num-envs", "8"), {})
    file = io.StringIO()
    learners.ours(task, 1, file)
    steps, seconds, _ = np.loadtxt(io.StringIO(file.getvalue()), delimiter=",").T
    assert steps[-1] >= 2_000
    assert (np.diff(steps) > 0).all()
    assert (np.diff(seconds) >= 0).all()
    assert seconds[-1] > 0


def test_another_version_of_cleanrls_script_is_refused(tmp_path):
    (tmp_path / "cleanrl").mkdir()
    (tmp_path / "cleanrl" / "ppo.py").write_text("print('rewritten')")
    with pytest.raises(ValueError, match="another version"):
        learners.cleanrl(learners.TASKS["CartPole-v1"], 1, io.StringIO(), tmp_path)
