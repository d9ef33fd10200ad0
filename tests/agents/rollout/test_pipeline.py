import copy
import threading
import time
from itertools import pairwise

import pytest
import torch

from agents.gates import make
from agents.learning.learner import Learner
from agents.rollout.collector import Collector
from agents.rollout.pipeline import Pipeline
from agents.runtime.random import generator
from envs.base import EnvironmentFailedError, VecEnv
from tests.agents.updating import A2C, CONFIG, agent_numbers, numbers, same

CPU = torch.device("cpu")
T = 3
"""An episode of Catch's and its autoreset."""


class Hindered(VecEnv):
    """Takes its time, or breaks at a step."""

    def __init__(self, env, seconds=0.0, breaks_at=-1):
        self.env, self.spec, self.device = env, env.spec, env.device
        self.seconds, self.breaks_at, self.count = seconds, breaks_at, 0

    def reset(self):
        return self.env.reset()

    def step(self, action):
        time.sleep(self.seconds)
        self.count += 1
        if self.count == self.breaks_at:
            raise ValueError("the emulator has died")
        return self.env.step(action)

    def close(self):
        self.env.close()


@pytest.fixture
def start(build_catch, build_agent, opinionated):
    """Starts pipelines, and ends them all; gives each with the agent that learns."""
    started = []

    def start(memory=0, **hindrance):
        env = Hindered(build_catch(), **hindrance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            learned = opinionated(build_agent(env.spec, memory=memory))
        player = copy.deepcopy(learned)
        collector = Collector(env, player, generator(0, "acting", CPU), T)
        started.append(Pipeline(collector, player, learned))
        return started[-1], learned

    yield start
    for pipeline in started:
        pipeline.close()


def learn(agent):
    """As an update would, only more."""
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(torch.randn_like(parameter))


def log_probability(agent, trajectory):
    logits = agent.unroll(trajectory).logits[:-1].detach()
    return torch.distributions.Categorical(logits=logits).log_prob(trajectory.action)


@pytest.mark.parametrize("memory", [0, 4])
def test_what_is_learnt_from_was_played_by_the_agent_before_its_last_update(start, memory):
    pipeline, learned = start(memory)
    before = copy.deepcopy(learned)
    for update in range(4):
        trajectory = pipeline.collect()
        played = log_probability(before, trajectory)
        assert torch.allclose(trajectory.log_probability, played, atol=1e-5)
        # The first alone was played by the agent as it is.
        now = log_probability(learned, trajectory)
        assert torch.allclose(trajectory.log_probability, now, atol=1e-5) == (update == 0)
        before = copy.deepcopy(learned)
        learn(learned)


def test_the_player_follows_the_rotation_of_the_features_too(build_catch, build_agent):
    env = build_catch()
    learned = build_agent(env.spec)
    learned.rotation = torch.eye(5).unsqueeze(0)
    player = copy.deepcopy(learned)
    pipeline = Pipeline(Collector(env, player, generator(0, "acting", CPU), T), player, learned)
    learned.rotation.copy_(torch.eye(5)[[1, 0, 2, 4, 3]])
    pipeline.collect()
    assert torch.equal(player.rotation, learned.rotation)
    pipeline.close()


def test_a_slow_environment_does_not_change_how_far_the_policy_lags(start):
    pipeline, learned = start(seconds=0.01)
    pipeline.collect()  # and the next is being played while the agent learns
    before = copy.deepcopy(learned)
    learn(learned)
    trajectory = pipeline.collect()
    assert torch.allclose(trajectory.log_probability, log_probability(before, trajectory))


def test_trajectories_follow_each_other_without_a_gap(start):
    pipeline, _ = start()
    trajectories = [pipeline.collect() for _ in range(4)]
    for first, second in pairwise(trajectories):
        assert torch.equal(first.observation[-1], second.observation[0])


def test_two_runs_are_alike_bit_for_bit_whoever_is_faster(start):
    def train(hindrance, thinking):
        pipeline, agent = start(seconds=hindrance)
        learner = Learner(agent, A2C, {}, make("sum"), CONFIG)
        logs = []
        for _ in range(5):
            logs.append(learner.update(pipeline.collect()))
            time.sleep(thinking)
        return agent_numbers(learner), [numbers(log) for log in logs], pipeline

    weights, logs, pipeline = train(hindrance=0.0, thinking=0.01)
    others, other_logs, other_pipeline = train(hindrance=0.003, thinking=0.0)
    assert same(weights, others)
    assert all(same(mine, theirs) for mine, theirs in zip(logs, other_logs, strict=True))
    assert pipeline.episodes.summary() == other_pipeline.episodes.summary()


def test_episodes_are_read_while_the_next_trajectory_is_played_and_count_it(start):
    pipeline, _ = start(seconds=0.003)
    assert pipeline.episodes.summary().finished == 0
    for count in range(1, 4):
        pipeline.collect()
        # One episode of each of the two environments in each of count + 1 trajectories.
        assert pipeline.episodes.summary().finished == 2 * (count + 1)


def test_an_error_of_the_environment_reaches_whoever_collects(start):
    # At step 5 of 3 a trajectory: in the second one, which is played meanwhile.
    pipeline, _ = start(breaks_at=5)
    pipeline.collect()
    for _ in range(2):
        with pytest.raises(EnvironmentFailedError, match="the emulator has died"):
            pipeline.collect()


def test_an_error_in_the_first_trajectory_is_raised_as_well(start):
    pipeline, _ = start(breaks_at=1)
    with pytest.raises(EnvironmentFailedError, match="the emulator has died"):
        pipeline.collect()


def test_closing_ends_the_thread_even_after_an_error(start):
    def threads():
        return [thread for thread in threading.enumerate() if "collector" in thread.name]

    before = threads()
    healthy, _ = start(seconds=0.003)
    broken, _ = start(breaks_at=5)
    for pipeline in (healthy, broken):
        pipeline.collect()
    assert len(threads()) == len(before) + 2
    for pipeline in (healthy, broken):
        pipeline.close()
    assert threads() == before


def test_a_pipeline_that_never_played_can_be_read_and_closed(start):
    pipeline, _ = start()
    assert pipeline.env.spec.num_envs == 2
    assert pipeline.episodes.summary().finished == 0
    pipeline.close()


def test_its_state_is_the_collectors_once_nothing_is_being_played(start):
    pipeline, _ = start(memory=4, seconds=0.003)
    pipeline.collect()
    state = pipeline.state_dict()
    other, _ = start(memory=4)
    other.load_state_dict(state)
    assert same(numbers(other.state_dict()), numbers(state))
    # Two trajectories of three steps were played, the one under way included.
    assert state["episodes"]["finished"] == 4


def test_waiting_for_the_environments_is_on_the_clock(start):
    slow, _ = start(seconds=0.01)
    slow.collect()  # 3 steps of 10 ms, which nobody could use for anything else
    seconds = slow.clock.read()
    assert seconds.environment >= 0.03
    assert seconds.acting == 0.0
    assert slow.clock.environment == 0.0
