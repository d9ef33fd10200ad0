"""Runs of several tasks, from the command line to their policies and scores."""

import json
from pathlib import Path

import pytest
import torch

from agents.runtime.checkpoint import load_tensors
from agents.teachers import load_policy
from experiments.evaluation import command as evaluate
from experiments.report.__main__ import main as report
from experiments.training import command as train
from experiments.training.trainer import DONE, MISTAKEN
from tests.experiments.sessions import alike, session_of

PAIR = "Catch+Catch(mirrored=True)"
SMALL = "--num-envs 4 --unroll-length 3 --device cpu --precision fp32 --threads 1"
WORLDS = "Gridworld+Gridworld(layout='maze')"
CPU = torch.device("cpu")


def run(line, env=PAIR):
    return train.main(["--env", env, *f"{SMALL} {line}".split()])


def refused(line, capsys, env=PAIR):
    assert run(f"{line} --run-dir no", env) == MISTAKEN
    assert not Path("no").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said.removeprefix("train.py: ").removesuffix("\n")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("env", "line", "said"),
    [
        ("Catch+Katch", "", "--env Catch+Katch: Unknown environment 'Katch'"),
        ("Catch+Catch", "", "Catch is given twice"),
        ("Catch+Gridworld", "", "choose tasks whose observations are alike"),
        (PAIR, "--tasks.main Pong", "--tasks.main Pong is no task of this run: choose Catch"),
        (PAIR, "--tasks.heads Pong --aux spr", "--tasks.heads Pong is no task of this run"),
        (PAIR, "--tasks.heads Catch", "--tasks.heads has no effect without heads: add --aux"),
        (PAIR, "--num-envs 1", "leaves a task without an environment"),
        (PAIR, "--env.share 1 2 3", "--env.share has 3 numbers for 2 tasks"),
        (PAIR, "--gate rotograd", "--gate rotograd is for one task"),
        (PAIR, "--gate.at features", "--gate.at features is for one task"),
        (PAIR, "--algo ppg", "--algo ppg is for one task"),
        (PAIR, "--algo none --gate sum", "--algo none is for one task"),
        (PAIR, "--aux distill", "Or --tasks.heads gives heads to another task alone."),
        (PAIR, "--aux distill --teacher a+b+c", "--teacher a+b+c names 3 for 2 tasks"),
        ("Catch", "--tasks.main Catch", "--tasks.main is not an option here"),
        (
            "Catch+Catch(rows=10, max_episode_steps=3)",
            "--algo ppo --algo.ppo.minibatches 3",
            "is more than the environments",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(env, line, said, capsys):
    assert said in refused(line, capsys, env)


def test_a_run_of_two_tasks_leaves_an_ordinary_policy_of_each(capsys):
    assert run("--steps 200 --run-dir two --gate cosine") == DONE
    said = capsys.readouterr().out
    assert "Catch-2 through --gate cosine." in said
    header = Path("two/metrics.csv").read_text().split("\n", 1)[0].split(",")
    assert {"return", "Catch-2/return", "Catch-2/cosine", "Catch-2/passed"} <= {*header}
    cards = [load_policy(Path("two") / name, CPU)[1] for name in POLICIES]
    assert [card.env_options["mirrored"] for card in cards] == [False, True]
    assert [card.steps for card in cards] == [204, 204]
    assert evaluate.main(["two", "--episodes", "3", "--num-envs", "2", "--device", "cpu"]) == 0
    protocols = [
        json.loads(Path("two", name).read_text())["protocol"]
        for name in ("evaluation.json", "evaluation-Catch-2.json")
    ]
    assert protocols == ["raw", "raw+mirrored=True"]
    assert report(["two", "--output", "page"]) == 0
    text = Path("page/summary.csv").read_text()
    assert f"{PAIR},score,final,cosine,1," in text
    Path("two", POLICIES[1]).unlink()
    assert evaluate.main(["two", "--episodes", "3", "--device", "cpu"]) == MISTAKEN
    assert "two lacks policy-Catch-2.safetensors, the policy of its task" in capsys.readouterr().err


POLICIES = ("policy.safetensors", "policy-Catch-2.safetensors")


def weights(folder):
    return [load_tensors(Path(folder, name))[0] for name in POLICIES]


@pytest.mark.parametrize(
    "line",
    [
        "--aux spr",
        "--core gru --core.gru.width 4 --algo ppo --algo.ppo.minibatches 2",
        "--pipeline",
    ],
)
def test_a_run_goes_on_where_it_was(line):
    assert run(f"{line} --steps 48 --run-dir whole") == DONE
    assert run(f"{line} --steps 48 --run-dir half --max-skipped 1") == DONE
    again = weights("half")
    Path("half", POLICIES[1]).unlink()  # as if it had been killed before the last one was written
    assert train.main(["--resume", "half", "--steps", "48"]) == DONE
    for one, whole, repaired in zip(weights("half"), weights("whole"), again, strict=True):
        assert alike(one, whole)
        assert alike(one, repaired)


def test_evaluations_keep_the_best_policy_of_each_task(capsys):
    assert run("--steps 24 --run-dir two --eval-every 12 --eval-episodes 2") == DONE
    said = capsys.readouterr().out
    assert said.count("Evaluation of Catch-2 at step") == 2
    for name in ("best.safetensors", "best-Catch-2.safetensors"):
        assert load_policy(Path("two", name), CPU)[1].evaluation["episodes"] == 2
    header = Path("two/evaluations.csv").read_text().split("\n", 1)[0].split(",")
    assert {"mean", "best", "Catch-2/mean", "Catch-2/best"} <= {*header}
    assert (
        evaluate.main(
            ["two", "--policy", "best", "--episodes", "2", "--num-envs", "2", "--device", "cpu"]
        )
        == 0
    )
    assert Path("two/evaluation-best-Catch-2.json").is_file()


def test_the_main_task_comes_first_whatever_the_order():
    session = session_of("--tasks.main Catch-2 --env.share 3 1", f"--env {PAIR} {SMALL}")
    assert [card.env_options["mirrored"] for card in session.cards] == [True, False]
    assert session.learner.names == ("Catch",)
    assert [task.spec.num_envs for task in session.env.tasks] == [1, 3]


def test_the_agent_of_the_first_task_is_that_of_the_task_alone():
    alone = session_of("", f"--env Catch {SMALL}").learner.agent
    first = session_of("", f"--env {PAIR} {SMALL}").learner.agent
    for part in ("torso",):
        assert alike(getattr(alone, part).state_dict(), getattr(first, part).state_dict())


def test_each_task_has_its_own_teacher_or_one_task_alone_has_heads():
    small = f"--env {WORLDS.replace(' ', '')} {SMALL} --aux distill --gate sum"
    both = session_of("", small)
    assert [*both.learner.heads] == ["Gridworld:distill", "Gridworld-2:distill"]
    digests = [head.get_extra_state()["teacher"] for head in both.learner.heads.values()]
    assert len({*digests}) == 2
    only = session_of("--tasks.heads gridworld-2", small)
    assert [*only.learner.heads] == ["Gridworld-2:distill"]


def test_the_trial_of_each_task_s_teacher_names_the_task():
    small = f"--env {WORLDS.replace(' ', '')} {SMALL} --aux distill --gate sum"
    session = session_of("--aux.distill.where ahead", small)
    for name in NAMES:
        assert f"{name}: The teacher was tried for " in session.remarks


NAMES = ("Gridworld", "Gridworld-2")


def test_a_teacher_may_lie_in_the_folder_of_a_run_of_several_tasks():
    # As the folder of such a run is called where nobody names it.
    folder = Path("runs/Catch+Catch")
    assert run(f"--gate sum --steps 12 --run-dir {folder}") == DONE
    line = f"--env {PAIR} {SMALL} --aux distill --teacher"

    def digests(teacher):
        session = session_of(teacher, line)
        return [head.get_extra_state()["teacher"] for head in session.learner.heads.values()]

    first, second = digests(f"{folder}+{folder}/policy-Catch-2.safetensors")
    assert first != second
    assert digests(str(folder)) == [first, first]
    assert digests(f"{folder}/policy-Catch-2.safetensors") == [second, second]
    last = digests(f"{folder}/policy-Catch-2.safetensors+{folder}/policy.safetensors")
    assert last == [second, first]


@pytest.mark.atari
def test_games_with_other_actions_share_a_core_that_hears_all_of_them():
    env = "Breakout+MsPacman"
    line = "--steps 24 --run-dir two --core gru --core.gru.width 4 --torso small"
    assert run(line, env) == DONE
    for name, actions in (("policy.safetensors", 4), ("policy-MsPacman.safetensors", 9)):
        agent, card = load_policy(Path("two", name), CPU)
        assert (card.num_actions, agent.policy.out_features) == (actions, actions)
        assert agent.core.state_size == 4 + 9
