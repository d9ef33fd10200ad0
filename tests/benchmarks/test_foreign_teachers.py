"""Tries the comparison on scores written by hand, and the copy of a teacher into plain layers."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.teachers import load_policy
from benchmarks import foreign_players, foreign_teachers
from benchmarks.foreign_teachers import COLUMNS, Options
from experiments.training.teachers import locate_policy

B, A, TEACHER = 3, 4, "Breakout/weak"
CPU = torch.device("cpu")


class Agent(nn.Module):
    """That of CleanRL's ppo_atari.py."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()),
        )
        self.actor, self.critic = nn.Linear(512, A), nn.Linear(512, 1)

    def logits(self, observation):
        return self.actor(self.network(observation / 255.0))


def copied():
    agent = Agent()
    layers = [*(agent.network[index] for index in (0, 2, 4, 7)), agent.actor]
    foreign_players.copy(TEACHER, layers)
    return agent


def frames():
    return torch.randint(256, (B, 4, 84, 84), dtype=torch.uint8)


@torch.no_grad()
def test_a_copied_teacher_has_the_logits_of_the_shipped_one():
    teacher, _ = load_policy(locate_policy(TEACHER), CPU)
    seen = frames()
    assert_close(copied().logits(seen), teacher.logits(seen[None])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.atari
@torch.no_grad()
def test_a_converted_file_is_compared_with_the_network_that_it_was_saved_from(tmp_path):
    agent, path = copied(), tmp_path / "policy.pt"
    torch.save(agent.state_dict(), path)

    def probabilities(observation):
        return agent.logits(torch.as_tensor(observation)).softmax(-1)

    converted = foreign_players.Converted(path, "Breakout", 1, probabilities)
    seen = frames().numpy()
    actions, state = converted.predict(seen, deterministic=False)
    assert actions.shape == (B,)
    assert state is None
    assert converted.largest_difference < 1e-5
    agent.actor.bias[0] += 1  # another network than the file's
    converted.act(seen)
    assert converted.largest_difference > 0.01


def test_intervals_overlap_or_do_not():
    low, high = np.tile([1.0, 3.0], 10), np.tile([11.0, 13.0], 10)
    names = COLUMNS[6:-1]
    same, apart = (
        dict(zip(names, foreign_teachers.compared(low, ours), strict=True)) for ours in (low, high)
    )
    # Means of 2 and 12; twenty draws of +-1 have a deviation of 1 / sqrt(20) = 0.22.
    assert (apart["their_mean"], apart["our_mean"], apart["difference"]) == ("2.0", "12.0", "10.0")
    assert 9 < float(apart["difference_low"]) < 10 < float(apart["difference_high"]) < 11
    assert (same["overlap"], apart["overlap"]) == ("yes", "no")


def test_the_table_has_a_line_for_each_of_our_environments(tmp_path):
    options = Options(sides=("sb3-atari",), episodes=2, runs=str(tmp_path))
    for policy in ("Breakout", "Breakout-strong"):
        folder = tmp_path / f"sb3-atari-{policy}-2-s1"
        folder.mkdir()
        theirs = {"env": "Theirs-v4", "theirs": [1, 3], "ours": [2, 4], "largest_difference": 1e-7}
        (folder / "scores.json").write_text(json.dumps(theirs))
        for backend, returns in (("envpool", [10, 20]), ("ale", [30, 50])):
            ours = {"returns": returns, "precision": "bf16"}
            (folder / f"{backend}.json").write_text(json.dumps(ours))
    head, *lines = foreign_teachers.lines(options, python="")
    rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    assert [row["policy"] for row in rows] == ["Breakout"] * 3 + ["Breakout/strong"] * 3
    assert [row["our_environment"] for row in rows[:3]] == ["theirs", "envpool", "ale"]
    assert [row["our_mean"] for row in rows[:3]] == ["3.0", "15.0", "40.0"]
    assert {row["their_mean"] for row in rows} == {"2.0"}
    assert [row["precision"] for row in rows[:3]] == ["fp32", "bf16", "bf16"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--sides", "rllib"], "--sides rllib: choose from sb3-cartpole"),
        (["--sides", "sb3-atari", "--episodes", "1"], "at least 2"),
        ([], "--cleanrl is missing"),
    ],
)
def test_mistakes_are_told_in_a_sentence(given, said, capsys):
    assert foreign_teachers.main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.atari
def test_another_version_of_cleanrls_script_is_refused(tmp_path, capsys):
    (tmp_path / "cleanrl").mkdir()
    (tmp_path / "cleanrl" / "ppo_atari.py").write_text("print('rewritten')")
    given = ["cleanrl-atari", TEACHER, "--output", str(tmp_path / "run"), "--cleanrl"]
    assert foreign_players.main([*given, str(tmp_path)]) == 2
    assert "0 times instead of once" in capsys.readouterr().err
