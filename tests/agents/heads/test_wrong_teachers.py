"""What is heard of a wrong teacher, in its trial and afterwards."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from agents.heads.distill import DistillConfig
from agents.runtime.random import Stream, generator
from agents.teachers import Teacher
from agents.trajectory import Trajectory
from envs.base import EnvSpec, Step, VecEnv

CPU = torch.device("cpu")
NAMES = ("LEFT", "STAY", "RIGHT")
LENGTHS = torch.tensor([4, 9])


class Clock(VecEnv):
    """Shows the time of the episode, and writes down what is done; episodes of 4 and 9 steps."""

    def __init__(self):
        self.device = CPU
        self.spec = EnvSpec("Clock", 2, (1,), torch.float32, 3, "Clock")
        self.done, self.valid = [], []

    def reset(self):
        self._time, self._over = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
        return self._time.unsqueeze(1)

    def step(self, action):
        valid = ~self._over
        self.done.append(action)
        self.valid.append(valid)
        self._time = torch.where(valid, self._time + 1, 0.0)
        self._over = valid & (self._time == LENGTHS)
        return Step(
            observation=self._time.unsqueeze(1),
            reward=torch.zeros(2),
            terminated=self._over,
            truncated=torch.zeros_like(self._over),
            valid=valid,
            ended=self._over,
        )

    def close(self):
        pass


class Rotating(Teacher):
    """Action 0 at time 0, 1 at 1, 2 at 2, 0 at 3 and so on."""

    def forward(self, trajectory):
        time = trajectory.observation[:-1, :, 0].long()
        return 10 * torch.nn.functional.one_hot(time % 3, 3).float()


@pytest.fixture
def asking(context):
    """Where the teacher is `Rotating`, and LEFT has its mirror image."""
    return replace(
        context,
        spec=Clock().spec,
        load_teacher=lambda path: Rotating(),
        action_names=lambda: NAMES,
        stream=lambda name: Stream(generator(0, name, CPU)),
    )


WRONG = {
    # By options: what is done in the episodes of 4 and of 9 steps.  The next one follows after a
    # step that does not count, and begins anew.
    "": ([0, 1, 2, 0], [0, 1, 2, 0, 1, 2, 0, 1, 2]),
    "mirror": ([2, 1, 0, 2], [2, 1, 0, 2, 1, 0, 2, 1, 0]),
    "delay": ([0, 0, 0, 1], [0, 0, 0, 1, 2, 0, 1, 2, 0]),
    "mask": ([0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    "delay mirror": ([2, 2, 2, 1], [2, 2, 2, 1, 0, 2, 1, 0, 2]),
    "mask mirror": ([2, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2, 2, 2]),
}
VALUES = {"mirror": True, "delay": 2, "mask": 1.0, "random_answers": 1.0}


def head_of(options, asking):
    chosen = {name: VALUES[name] for name in options.split()}
    return DistillConfig(where="ahead", temperature=0.0, **chosen).build(asking)


def tried(head):
    """The actions of the trial's first 20 steps, and which of them counted."""
    env = Clock()
    head.before_training(lambda: nullcontext(env), generator(1, "a trial", CPU))
    return torch.stack(env.done[:20]), torch.stack(env.valid[:20])


def clocked(valid):
    """The trajectory of a student that saw what the teacher saw in its trial."""
    time = torch.zeros(len(valid) + 1, 2)
    for t, counts in enumerate(valid):
        time[t + 1] = torch.where(counts, time[t] + 1, 0.0)
    nothing = torch.zeros(valid.shape)
    return Trajectory(
        action=nothing.long(),
        reward=nothing,
        terminated=nothing.bool(),
        truncated=nothing.bool(),
        valid=valid,
        log_probability=nothing,
        observation=time.unsqueeze(-1),
        episode_start=torch.ones(2, dtype=torch.bool),
    )


@pytest.mark.parametrize("options", WRONG)
def test_a_wrong_teacher_is_tried_as_it_will_be_heard(options, asking, agent):
    head = head_of(options, asking)
    done, valid = tried(head)
    for number, expected in enumerate(WRONG[options]):
        episode = done[:, number][valid[:, number]]
        assert episode[: 2 * len(expected)].tolist() == 2 * expected
    # And heard so afterwards: what was tried leaves no trace.
    trajectory = clocked(valid)
    heard = head.prepare(agent, trajectory).probabilities.argmax(-1)
    assert torch.equal(heard[valid], done[valid])


def test_answers_dealt_out_at_random_are_tried_too(asking):
    done, valid = tried(head_of("random_answers", asking))
    right, _ = tried(head_of("", asking))
    # All are dealt out to three actions: a third is as before.
    assert 0.1 < (done == right)[valid].float().mean() < 0.6


def test_all_of_it_together_goes_on_exactly(asking, agent):
    options = "delay mirror random_answers"
    _, valid = tried(head_of("", asking))
    first, second = clocked(valid[:7]), clocked(valid[7:])
    # The second goes on where the first ends.
    second = replace(second, observation=clocked(valid).observation[7:], episode_start=~valid[6])
    whole, resumed = head_of(options, asking), head_of(options, asking)
    whole.prepare(agent, first)
    state = {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in whole.state_dict().items()
    }
    expected = whole.prepare(agent, second).probabilities
    assert not torch.equal(resumed.prepare(agent, second).probabilities, expected)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.prepare(agent, second).probabilities, expected)
