import pytest
import torch
from torch.testing import assert_close

from agents.collect import Collector
from agents.seeding import generator
from envs.base import VecEnv

CPU = torch.device("cpu")
T = 5
"""More than Catch's episode of two steps and its autoreset, and not a multiple of both."""


class Recorder(VecEnv):
    """Passes everything on and keeps it."""

    def __init__(self, env):
        self.env, self.spec, self.device = env, env.spec, env.device
        self.actions, self.steps = [], []

    def reset(self):
        self.first = self.env.reset()
        return self.first

    def step(self, action):
        self.actions.append(action)
        self.steps.append(self.env.step(action))
        return self.steps[-1]

    def close(self):
        self.env.close()


@pytest.fixture
def recorder(catch):
    return Recorder(catch)


@pytest.fixture
def collector(recorder, small_agent, opinionated):
    agent = opinionated(small_agent)
    return Collector(recorder, agent, generator(0, "acting", CPU), unroll_length=T)


def test_the_trajectory_is_what_the_environment_answered(collector, recorder):
    trajectory = collector.collect()
    steps = recorder.steps
    assert len(steps) == T
    assert torch.equal(trajectory.action, torch.stack(recorder.actions))
    frames = torch.stack([recorder.first, *(step.observation for step in steps)])
    assert torch.equal(trajectory.observation, frames)
    for name in ("reward", "terminated", "truncated", "valid"):
        expected = torch.stack([getattr(step, name) for step in steps])
        assert torch.equal(getattr(trajectory, name), expected)
    # Two steps an episode, then an autoreset.
    assert trajectory.terminated.all(1).tolist() == [False, True, False, False, True]
    assert trajectory.valid.all(1).tolist() == [True, True, False, True, True]


def test_the_log_probabilities_are_those_of_the_policy_that_acted(collector, small_agent):
    trajectory = collector.collect()
    logits = small_agent.logits(trajectory.observation[:-1])
    expected = torch.distributions.Categorical(logits=logits).log_prob(trajectory.action)
    assert_close(trajectory.log_probability, expected.detach())


def test_the_next_trajectory_begins_where_the_last_one_ended(collector, recorder):
    first, second = collector.collect(), collector.collect()
    assert torch.equal(first.observation[-1], second.observation[0])
    assert torch.equal(second.observation[-1], recorder.steps[-1].observation)
    # The end at the last step of the first makes the first step of the second invalid.
    assert first.terminated[-1].all()
    assert not second.valid[0].any()


def test_what_was_collected_does_not_change_later(collector):
    first = collector.collect()
    copy = first.observation.clone()
    collector.collect()
    assert torch.equal(first.observation, copy)


@pytest.mark.parametrize(
    ("transform", "expected"), [("sign", [1.0, -1.0, 0.0]), ("none", [2.5, -3.0, 0.0])]
)
def test_rewards_are_transformed_as_the_spec_asks_and_logged_raw(
    scripted, play, build_agent, transform, expected
):
    script = [play(2.5), play(-3.0), play(0.0, "over")]
    env = scripted([script, script], reward_transform=transform)
    collector = Collector(env, build_agent(env.spec), generator(0, "acting", CPU), 3)
    assert collector.collect().reward[:, 0].tolist() == expected
    summary = collector.episodes.summary()
    assert (summary.finished, summary.mean_return, summary.mean_length) == (2, -0.5, 3.0)


def test_a_length_divides_the_same_play_otherwise(build_catch, build_agent):
    def play(unroll_length, rounds):
        env = build_catch()
        collector = Collector(
            env, build_agent(env.spec), generator(0, "acting", CPU), unroll_length
        )
        pieces = [collector.collect() for _ in range(rounds)]
        return torch.cat([p.action for p in pieces]), torch.cat([p.reward for p in pieces])

    for long, short in zip(play(6, 2), play(3, 4), strict=True):
        assert torch.equal(long, short)


def test_a_restored_environment_is_continued(build_catch, build_agent):
    env = build_catch()
    agent = build_agent(env.spec)
    collector = Collector(env, agent, generator(0, "acting", CPU), T)
    collector.collect()
    state, snapshot = collector.generator.get_state(), env.snapshot()
    expected = collector.collect()

    other = build_catch(seed=9)
    resumed = Collector(other, agent, generator(5, "acting", CPU), T)
    resumed.generator.set_state(state)
    resumed.go_on_from(other.restore(snapshot))
    trajectory = resumed.collect()
    for name in ("observation", "action", "reward", "valid", "log_probability"):
        assert torch.equal(getattr(trajectory, name), getattr(expected, name))


def test_the_clock_counts_environment_and_acting_apart_and_starts_again(collector):
    collector.collect()
    seconds = collector.clock.read()
    assert seconds.environment > 0
    assert seconds.acting > 0
    assert (collector.clock.environment, collector.clock.acting) == (0.0, 0.0)
