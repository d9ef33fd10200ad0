"""Tries the comparison on curves written by hand and on our own side, without the peers."""

import io

import gymnasium
import numpy as np
import pytest

from benchmarks import learners, learning
from benchmarks.learners import Recorded, Recorder
from benchmarks.learning_tasks import TASKS, Task


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
    recorder.finish(16)  # is there
    recorder.finish(20)
    assert [line.split(",")[0] for line in file.getvalue().splitlines()] == ["8", "16", "20"]


def test_a_run_without_a_finished_episode_has_no_end_to_write():
    recorder = Recorder(file := io.StringIO(), steps=400)
    recorder.start()
    recorder.finish(400)
    assert file.getvalue() == ""


def test_a_linear_schedule_ends_at_zero_and_numbers_stay():
    schedule = learners._schedule("lin_1e-3")
    assert (schedule(1.0), schedule(0.0)) == (pytest.approx(1e-3), 0)
    assert learners._schedule(0.5) == 0.5


def write(folder, task, side, seed, returns, steps=0):
    name = f"{task}-{side}-{steps}" if steps else f"{task}-{side}"
    steps = steps or TASKS[task].steps
    lines = [f"{int(steps * (i + 1) / 4)},{i + 1}.0,{value}" for i, value in enumerate(returns)]
    path = folder / f"{name}-s{seed}.csv"
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


@pytest.fixture
def shortened(tmp_path):
    """Arguments of a comparison on a game that is cut to 1,000 steps, next to a longer run."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for side, last in (("auxgate", 4), ("cleanrl-ppo", 8), ("cleanrl-pqn", 12), ("sb3-ppo", 16)):
        write(runs, "Breakout", side, 1, [1, 2, 3, last], steps=1_000)
    write(runs, "Breakout", "auxgate", 1, [1, 2, 3, 400])
    given = ["--tasks", "Breakout", "--sides", "auxgate", "cleanrl-pqn", "--seeds", "1"]
    given += ["--steps", "1000", "--cleanrl", "nowhere", "--runs", str(runs)]
    return [*given, "--output", str(tmp_path)]


def test_a_side_with_more_steps_is_compared_by_time_alone(shortened, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "python_of", lambda *given: "python")
    write(tmp_path / "runs", "Breakout", "auxgate-3x", 1, [1, 2, 3, 40], steps=1_000)
    given = [word for word in shortened if word != "cleanrl-pqn"]
    given.insert(given.index("auxgate") + 1, "auxgate-3x")
    assert learning.main(given) == 0
    _, rows = learning.read_table(tmp_path / "summary.csv")
    assert [(row["side"], row["steps"]) for row in rows] == [
        ("auxgate", "1000"),
        ("auxgate-3x", "3000"),
    ]
    runs = {
        learning.Setting("Breakout", side, 1): learning.read(
            tmp_path / "runs" / f"Breakout-{side}-1000-s1.csv"
        )
        for side in ("auxgate", "auxgate-3x")
    }
    drawn = learning.figure({"Breakout": 1000}, runs)
    by_steps, by_time = drawn.axes
    assert [line.get_label() for line in by_steps.lines] == ["auxgate"]
    assert [line.get_label() for line in by_time.lines] == ["auxgate", "auxgate-3x"]
    picture = (tmp_path / "learning.png").read_bytes()
    learning.redraw(tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes() == picture


def test_shortened_runs_are_other_runs_and_the_table_says_their_steps(
    shortened, tmp_path, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(learning, "python_of", lambda *given: asked.append(given) or "python")
    assert learning.main(shortened) == 0
    assert asked == [(".peers", learning.EMULATORS)]
    remarks, rows = learning.read_table(tmp_path / "summary.csv")
    assert [(row["side"], row["steps"]) for row in rows] == [
        ("auxgate", "1000"),
        ("cleanrl-pqn", "1000"),
    ]
    assert float(rows[0]["final"]) < 4
    assert any("envpool: one thread per pool" in remark for remark in remarks)
    assert any("ale-py" in remark for remark in remarks if remark.startswith("# peers"))


def test_the_figure_ends_where_the_runs_do(shortened, tmp_path, monkeypatch, capsys):
    drawn = []
    draw = learning.figure
    monkeypatch.setattr(learning, "python_of", lambda *given: "python")
    monkeypatch.setattr(learning, "figure", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    assert learning.main(shortened) == 0
    assert drawn[0].axes[0].get_xlim() == (0, 1_000)


def test_games_are_compared_only_where_they_are_named():
    assert "CartPole-v1" in learning.Options().tasks
    assert not {"Breakout", "Pong", "Procgen-bigfish"} & set(learning.Options().tasks)


def test_a_run_in_which_no_episode_ends_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(learners, "ours", lambda *given: None)
    given = ["auxgate", "Pong", "--steps", "300", "--output", str(tmp_path / "curve.csv")]
    assert learners.main(given) == 2
    assert "no episode ended in 300 steps" in capsys.readouterr().err
    assert not (tmp_path / "curve.csv").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tasks", "Tennis"], "--tasks Tennis: choose from CartPole-v1"),
        (["--sides", "rllib"], "--sides rllib: choose from auxgate"),
        (["--sides", "auxgate", "--seeds", "0"], "at least 1"),
        (["--sides", "auxgate", "--steps", "199"], "--steps must be at least 200"),
        (["--sides", "sb3-ppo", "--tasks", "Procgen-bigfish"], "none of them has numbers"),
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
    with pytest.raises(ValueError, match=r"ppo\.py holds .* 0 times instead of once"):
        learners.cleanrl("cleanrl-ppo", TASKS["CartPole-v1"], 1, io.StringIO(), tmp_path)
