import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.trust import STEP_LIMIT, Trial
from agents.runtime.random import generator
from agents.statistics import WINDOW, ReturnSums, certainty, returns_so_far
from agents.teachers import Teacher
from agents.trajectory import Trajectory
from envs.base import EnvSpec, Step, VecEnv

CPU = torch.device("cpu")


class Corridor(VecEnv):
    """Action 1 pays 2 and ends the episode after as many steps as the environment's number."""

    def __init__(self, num_envs, transform="none", ends=True, lives=1):
        self.device = CPU
        self.spec = EnvSpec(
            *("corridor", num_envs, (1,), torch.float32, 2, "two"), reward_transform=transform
        )
        self._ends, self._lives = ends, lives
        self._lost = torch.zeros(num_envs)
        self._time = torch.zeros(num_envs)
        self._over = torch.zeros(num_envs, dtype=torch.bool)

    def reset(self):
        self._time.zero_()
        self._over.zero_()
        self._lost.zero_()
        return self._time.clone().unsqueeze(1)

    def step(self, action):
        valid = ~self._over
        self._time = torch.where(valid, self._time + 1, 0.0)
        # Each further life takes one step more.
        number = torch.arange(1, 1 + len(action)) + self._lost
        self._over = valid & (self._time >= number) & self._ends
        self._lost = (self._lost + self._over) % self._lives
        never = torch.zeros_like(self._over)
        reward = torch.where(valid, 2.0 * action, 0.0)
        observation = self._time.clone().unsqueeze(1)
        return Step(observation, reward, self._over, never, valid, self._over & (self._lost == 0))

    def close(self):
        """Holds nothing."""


class Always(Teacher):
    """Takes one action, and remembers what it was told and shown."""

    def __init__(self, action):
        super().__init__()
        self.action, self.told, self.openings = action, [], []

    def forward(self, trajectory):
        self.openings.append(trajectory.reset[0])
        self.memory = torch.ones(1)
        logits = torch.full((*trajectory.action.shape, 2), -torch.inf)
        logits[..., self.action] = 0.0
        return logits

    def acted(self, action):
        self.told.append(action)


def tried(trial, teacher, env):
    return trial.hold(
        teacher, lambda moment: teacher(moment).softmax(-1), env, generator(1, "t", CPU)
    )


def student(reward, terminated):
    """One environment's steps."""
    reward, over = torch.tensor(reward).unsqueeze(1), torch.tensor(terminated).unsqueeze(1)
    none = torch.zeros_like(over)
    return Trajectory(
        action=none.long(),
        reward=reward,
        terminated=over,
        truncated=none,
        valid=~none,
        log_probability=none.float(),
        observation=torch.zeros(len(reward) + 1, 1, 1),
    )


@pytest.mark.parametrize(("transform", "mean"), [("none", 9.0), ("sign", 4.5)])
def test_a_trial_counts_the_first_episode_of_every_environment(transform, mean):
    trial, teacher = Trial(8, CPU), Always(1)
    sentence = tried(trial, teacher, Corridor(8, transform))
    # Episodes of 1, 2, ... and 8 steps; what comes after them, of the short ones most, does not
    # count.
    returns = mean / 4.5 * torch.arange(1.0, 9.0)
    assert_close(trial.standard, torch.stack([returns.mean(), returns.var() / 8]))
    assert "8 episodes (36 steps, which do not count): " in sentence
    assert f"it earns {mean:g} (standard error" in sentence
    assert teacher.memory is None, "the student's first trajectory opens episodes"
    assert teacher.openings[0].all()
    assert teacher.openings[2].tolist() == [True, *[False] * 7]
    assert all(action.tolist() == [1] * 8 for action in teacher.told)


@pytest.mark.parametrize(("num_envs", "episodes"), [(1, 8), (3, 9), (7, 14), (9, 9)])
def test_where_environments_are_few_each_plays_several_episodes(num_envs, episodes):
    trial, teacher = Trial(num_envs, CPU), Always(1)
    sentence = tried(trial, teacher, Corridor(num_envs))
    assert f"tried for {episodes} episodes" in sentence
    returns = torch.arange(2.0, 2.0 * num_envs + 1, 2.0).repeat(episodes // num_envs)
    assert_close(trial.standard, torch.stack([returns.mean(), returns.var() / episodes]))
    # All environments begin anew together.
    rounds = len(teacher.openings) // 32
    assert rounds == episodes // num_envs
    assert all(teacher.openings[32 * each].all() for each in range(rounds))


def test_a_trial_counts_every_life_of_a_game():
    trial = Trial(8, CPU)
    sentence = tried(trial, Always(1), Corridor(8, lives=3))
    assert "tried for 24 episodes" in sentence
    number = torch.arange(1.0, 9.0)
    returns = 2 * torch.cat([number, number + 1, number + 2])
    assert_close(trial.standard, torch.stack([returns.mean(), returns.var() / 24]))


def test_an_endless_trial_is_cut_and_counts_what_was_earned():
    trial = Trial(8, CPU)
    assert f"{8 * STEP_LIMIT:,} steps" in tried(trial, Always(1), Corridor(8, ends=False))
    assert trial.standard.tolist() == [2.0 * STEP_LIMIT, 0.0]


def test_a_teacher_is_followed_in_a_single_environment():
    trial = Trial(1, CPU)
    tried(trial, Always(1), Corridor(1))
    weight, lead = trial(student([0.0, 0.0], [True, True]))
    assert (weight, lead) == (1, 2)


def test_nothing_is_followed_before_two_episodes_of_the_student_have_ended():
    trial = Trial(1, CPU)
    trial.standard.copy_(torch.tensor([5.0, 0.01]))
    weight, _ = trial(student([1.0, 1.0, 1.0], [False, True, False]))
    assert weight == 0
    weight, lead = trial(student([1.0], [True]))
    # Episodes of 1 + 1 and, across two trajectories, 1 + 1.
    assert weight == 1
    assert_close(lead, torch.tensor(5.0 - 2.0))


def test_episodes_that_begin_anew_forget_what_was_earned():
    trial = Trial(1, CPU)
    trial(student([7.0], [False]))
    fresh = replace(student([1.0, 1.0], [True, True]), episode_start=torch.tensor([True]))
    trial(fresh)
    assert_close(trial.sums[1, 0], torch.tensor(2.0))


def test_a_trial_is_loaded_with_another_number_of_environments():
    whole, part = Trial(4, CPU), Trial(2, CPU)
    whole.standard.copy_(torch.tensor([5.0, 0.1]))
    whole.earned.fill_(3.0)
    part.load_state_dict(whole.state_dict())
    assert torch.equal(part.standard, whole.standard)
    assert not part.earned.any()


def test_a_student_that_has_caught_up_follows_no_longer():
    trial = Trial(1, CPU)
    trial.standard.copy_(torch.tensor([5.0, 0.01]))
    weights = [float(trial(student([float(r)], [True]))[0]) for r in [0] * 3 + [9] * 300]
    assert weights[2] == 1
    assert weights[-1] == 0


def test_the_weight_is_the_probability_of_a_lead_less_that_of_the_contrary():
    lead, deviation = torch.tensor([-1.0, 0.0, 0.7, 50.0]), torch.tensor([2.0, 2.0, 2.0, 2.0])
    normal = torch.distributions.Normal(lead, deviation)
    above = 1 - normal.cdf(torch.zeros(4))
    assert_close(certainty(lead, deviation.square()), (above - (1 - above)).clamp(min=0))


def test_returns_so_far_are_those_of_a_loop():
    torch.manual_seed(3)
    earned, reward, ends = torch.randn(4), torch.randn(9, 4), torch.rand(9, 4) < 0.3
    running, expected = earned.clone(), []
    for paid, over in zip(reward, ends, strict=True):
        running = running + paid
        expected.append(running)
        running = torch.where(over, 0.0, running)
    assert_close(returns_so_far(earned, reward, ends), torch.stack(expected))


def test_the_mean_forgets_and_knows_how_well_it_is_known():
    sums = ReturnSums(torch.zeros(3, 2))
    assert sums.mean_and_variance()[1].isinf().all()
    torch.manual_seed(0)
    old, new = torch.full((500, 2), 100.0), torch.randn(20_000, 2) + 3
    some = torch.ones(500, 2, dtype=torch.bool)
    sums.add(old, some)
    for chunk in new.split(50):
        sums.add(chunk, some[:50])
    mean, variance = sums.mean_and_variance()
    assert_close(mean, torch.full((2,), 3.0), atol=0.4, rtol=0.0)
    # About WINDOW episodes of unit variance.
    assert all(math.sqrt(v) == pytest.approx(1 / math.sqrt(WINDOW), rel=0.4) for v in variance)
    before = sums.sums.clone()
    sums.add(old[:5], torch.zeros(5, 2, dtype=torch.bool))
    assert_close(sums.sums, before)
