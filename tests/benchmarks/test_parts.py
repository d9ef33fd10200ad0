import csv

import pytest
import torch

from benchmarks.parts import Options, agent_player, random_player, run
from configs.cli import parse
from experiments.training.trainer import set_up

# T = 4 steps in B = 3 environments: 12 agent steps an unroll.
FLAGS = "--env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --device cpu --precision fp32"


@pytest.fixture
def session():
    return set_up(parse(FLAGS.split()))[0]


def actions_of(env, monkeypatch):
    """The actions that an environment gets from now on."""
    sent, step = [], env.step

    def recorded(action):
        sent.append(action.tolist())
        return step(action)

    monkeypatch.setattr(env, "step", recorded)
    return sent


def weights_of(session):
    return torch.cat([parameter.flatten() for parameter in session.learner.agent.parameters()])


@pytest.mark.parametrize("part", ["env", "act"])
def test_a_part_notes_every_unroll_until_its_steps_are_done(part, tmp_path):
    run(Options(part, str(tmp_path / "part.csv"), steps=30), FLAGS.split())
    with (tmp_path / "part.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["12", "24", "36"]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_the_environments_alone_get_random_actions_and_all_of_them(session, monkeypatch):
    sent = actions_of(session.env, monkeypatch)
    play = random_player(session, unroll_length=20, seed=1)
    play()
    assert [len(actions) for actions in sent] == [3] * 20
    # The chance that one of three actions is missing among 60 is 3 (2/3)^60, or 1e-10.
    assert {action for actions in sent for action in actions} == {0, 1, 2}
    play()
    assert sent[:20] != sent[20:]


def test_acting_sends_what_the_agent_chooses(session, monkeypatch):
    with torch.no_grad():
        session.learner.agent.policy.weight.zero_()
        # Action 1 is e^100 times as likely as the others.
        session.learner.agent.policy.bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
    sent = actions_of(session.env, monkeypatch)
    agent_player(session)()
    assert sent == [[1, 1, 1]] * 4


def test_nothing_is_learnt(session):
    before = weights_of(session)
    random_player(session, unroll_length=4, seed=1)()
    agent_player(session)()
    assert torch.equal(before, weights_of(session))
    assert session.learner.steps == 0
