"""The port is tried on a script of our own that asks for the old gym where CleanRL's does.

Where CleanRL's clone lies next to this repository, its own scripts are ported too.
"""

import io
import sys
import time
from pathlib import Path

import pytest

from benchmarks import cleanrl, learners
from benchmarks.cleanrl import PPO_ENVPOOL, PQN_ENVPOOL, Log, Script, main
from benchmarks.learning_tasks import TASKS

SNIPPETS = [snippet for snippet, _ in PPO_ENVPOOL.replacements]
CLONE = Path(__file__).resolve().parents[3] / "cleanrl"
SCRIPTS = [value for value in vars(cleanrl).values() if isinstance(value, Script)]

OLD = '''
import gym
import numpy as np
import time

class Two(gym.Env):
    """Two games as the new envpool has them: counts cannot be set, five values a step."""

    num_envs = property(lambda self: 2)
    single_action_space = property(lambda self: "actions of one")
    single_observation_space = property(lambda self: "observations of one")
    asked = None

    def reset(self, **options):
        return np.zeros(2), {"lives": np.zeros(2)}

    def step(self, action):
        # The first game is over, the second was cut.
        ends = np.array([True, False]), np.array([False, True])
        return np.ones(2), np.ones(2), *ends, {"r": np.array([3.5, 0.0]), "l": np.array([7, 0])}

class Counted(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)

    def reset(self, **options):
        observations = super().reset(**options)
        return observations

    def step(self, action):
        observations, rewards, dones, infos = super().step(action)
        return observations, rewards, dones, infos

def make(env_type, num_threads):
    made.append((env_type, num_threads))
    return Two()

class args:
    num_envs = 2

made, avg_returns, idx, global_step = [], [], 0, 24
envs = make(env_type="gym")
envs.num_envs = args.num_envs
envs.single_action_space = envs.action_space
envs.single_observation_space = envs.observation_space
envs = Counted(envs)
start_time = time.time()
observations = envs.reset()
_, _, done, info = envs.step(np.zeros(2))
avg_returns.append(info["r"][idx])
print("SPS:", 1)
SEEN.update(globals())
'''


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone of CleanRL, with our script in it."""
    for script in (PPO_ENVPOOL, PQN_ENVPOOL):
        path = tmp_path / "clone" / script.path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = OLD.replace("SEEN.update", "import sys; sys.modules['seen'].update")
        path.write_text(text, "utf-8")
    return tmp_path / "clone"


@pytest.fixture
def seen(monkeypatch):
    """The global names of a script of ours after it has run."""
    names = {}
    monkeypatch.setitem(sys.modules, "seen", names)
    monkeypatch.setattr(sys, "argv", [])
    return names


@pytest.fixture
def run(clone, tmp_path, monkeypatch, seen):
    """Runs the ported script and gives its global names and the folder that it wrote."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deep" / "output"
    arguments = ["--cleanrl", str(clone), "--output", str(folder), "--env-threads", "3"]
    assert main([*arguments, "--", "--seed", "5"]) == 0
    return seen, folder


def test_the_ported_script_gets_from_the_new_gym_what_it_expects_of_the_old_one(run):
    seen, _ = run
    assert seen["made"] == [("gymnasium", 3)]
    assert seen["observations"].tolist() == [0, 0]  # without the infos
    assert seen["done"].tolist() == [True, True]  # over or cut
    assert seen["envs"].single_action_space == "actions of one"
    assert seen["envs"].single_observation_space == "observations of one"
    assert seen["avg_returns"] == [3.5]  # what was there is still done


def test_the_script_gets_its_own_flags(run):
    assert sys.argv == [str(PPO_ENVPOOL.path), "--seed", "5"]


def test_finished_games_and_updates_are_written_with_their_time(run):
    _, folder = run
    header, line = (folder / "episodes.csv").read_text("utf-8").splitlines()
    assert header == "step,seconds,return,length"
    step, seconds, score, length = line.split(",")
    assert (step, score, length) == ("24", "3.5", "7")
    assert 0 <= float(seconds) < 60
    header, line = (folder / "updates.csv").read_text("utf-8").splitlines()
    assert header == "step,seconds"
    assert line.startswith("24,")


def test_what_happens_is_on_the_disk_at_once(tmp_path):
    with (tmp_path / "episodes.csv").open("w", encoding="utf-8") as episodes:
        log = Log(episodes, io.StringIO(), time.perf_counter() - 2.0)
        log.on_episode(128, 21.0, 300)
        step, seconds, score, length = (tmp_path / "episodes.csv").read_text("utf-8").split(",")
    assert (step, score, length) == ("128", "21", "300\n")
    assert 2 <= float(seconds) < 60


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str.strip)
def test_a_script_that_lacks_a_snippet_or_has_it_twice_is_refused(snippet):
    for source, count in ((OLD.replace(snippet, ""), 0), (OLD + snippet, 2)):
        with pytest.raises(ValueError, match=rf"{count} times instead of once") as refusal:
            PPO_ENVPOOL.port(source)
        assert repr(snippet.strip()) in str(refusal.value)


def test_a_folder_that_is_no_clone_is_refused_in_a_sentence(tmp_path, capsys):
    arguments = ["--cleanrl", str(tmp_path), "--output", str(tmp_path / "output")]
    assert main(arguments) == 2
    assert "clone CleanRL as benchmarks/cleanrl.py --help says" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


def test_a_clone_is_read_and_ported(clone):
    assert "import gymnasium as gym" in PPO_ENVPOOL.load(clone)


@pytest.mark.parametrize(("side", "name"), [("cleanrl-ppo", "ppo"), ("cleanrl-pqn", "pqn")])
def test_a_learning_curve_holds_the_scores_and_the_end_of_a_run(side, name, clone, seen):
    file = io.StringIO()
    learners.cleanrl(side, TASKS["Breakout"], 3, file, clone)
    lines = [line.split(",") for line in file.getvalue().splitlines()]
    # The only game ends after 24 of 400,000 steps: too early for a line of its own.
    assert [(line[0], line[2]) for line in lines] == [("24", "3.5000")]
    flags = ["--seed=3", "--total-timesteps=400000", "--no-cuda", "--env-id=Breakout-v5"]
    assert sys.argv == [f"cleanrl/{name}_atari_envpool.py", *flags]
    assert seen["made"] == [("gymnasium", 1)]


@pytest.mark.skipif(not CLONE.is_dir(), reason=f"needs a clone of CleanRL at {CLONE}")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.path.stem)
def test_the_scripts_of_a_clone_can_be_ported(script):
    compile(script.load(CLONE), str(script.path), "exec")


def test_every_side_and_suite_of_a_task_has_its_script():
    found = {
        (side, task.suite) for task in TASKS.values() for side in task.peers if "cleanrl" in side
    }
    assert found == set(learners.SCRIPTS)
