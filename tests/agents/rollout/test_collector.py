from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.rollout.collector import Collector
from agents.runtime.checkpoint import load_checkpoint, save_checkpoint
from agents.runtime.random import generator
from envs.base import VecEnv
from envs.joined import VecEnvParts

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


def playing(env, agent, length=T, seed=0, **options):
    return Collector(env, agent, generator(seed, "acting", CPU), length, **options)


@pytest.fixture
def recorder(catch):
    return Recorder(catch)


@pytest.fixture
def collector(recorder, small_agent, opinionated):
    return playing(recorder, opinionated(small_agent))


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
    collector = playing(env, build_agent(env.spec), 3)
    assert collector.collect().reward[:, 0].tolist() == expected
    summary = collector.episodes.summary()
    assert (summary.finished, summary.mean_return, summary.mean_length) == (2, -0.5, 3.0)


@pytest.mark.parametrize("memory", [0, 4])
@pytest.mark.parametrize("length", [3, 4, 5])
def test_a_length_divides_the_same_play_otherwise(build_catch, build_agent, length, memory):
    def play(unroll_length, rounds):
        env = build_catch()
        collector = playing(env, build_agent(env.spec, memory=memory), unroll_length)
        pieces = [collector.collect() for _ in range(rounds)]
        return torch.cat([p.action for p in pieces]), torch.cat([p.reward for p in pieces])

    for long, short in zip(play(2 * length, 2), play(length, 4), strict=True):
        assert torch.equal(long, short)


def test_a_restored_environment_is_continued(build_catch, build_agent):
    env = build_catch()
    agent = build_agent(env.spec)
    collector = playing(env, agent)
    collector.collect()
    state, snapshot = collector.generator.get_state(), env.snapshot()
    expected = collector.collect()

    other = build_catch(seed=9)
    resumed = playing(other, agent, seed=5)
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


# Values.


def test_values_are_recorded_where_the_algorithm_asks_and_only_there(catch, small_agent):
    assert playing(catch, small_agent).collect().value is None
    assert playing(catch, small_agent, records_value=True).collect().value is not None


@pytest.mark.parametrize("memory", [0, 4])
def test_values_are_those_of_the_agent_that_acted_the_last_observation_included(
    build_catch, build_agent, memory
):
    env = build_catch()
    agent = build_agent(env.spec, memory=memory)
    collector = playing(env, agent, records_value=True)
    for _ in range(3):
        trajectory = collector.collect()
        before = agent.unroll(trajectory).value.detach()
        assert_close(trajectory.value, before)
        with torch.no_grad():
            agent.value.weight.add_(1.0)  # as if it had learnt
        assert not torch.isclose(trajectory.value, agent.unroll(trajectory).value).any()


def test_the_value_of_the_last_observation_is_that_before_the_agent_learns(
    build_catch, build_agent
):
    env = build_catch()
    agent = build_agent(env.spec)
    collector = playing(env, agent, records_value=True)
    first = collector.collect()
    with torch.no_grad():
        agent.value.bias.add_(1.0)
    second = collector.collect()
    # Of the same observation: once to bootstrap from, once to act on.
    assert_close(second.value[0], first.value[-1] + 1.0)


# Memory.


@pytest.mark.parametrize("last_action", [False, True])
@pytest.mark.parametrize(
    ("length", "episode_start"),
    [
        (3, [True, True, True]),  # an episode of two steps and its autoreset
        (4, [True, False, False]),  # cut in mid-episode, then before the autoreset
        (5, [True, False, False]),  # cut before the autoreset, then in mid-episode
    ],
)
def test_what_a_recurrent_agent_saw_when_it_acted_is_what_the_learner_unrolls(
    build_catch, build_agent, opinionated, length, episode_start, last_action
):
    env = build_catch()
    agent = opinionated(build_agent(env.spec, memory=4, last_action=last_action))
    collector = playing(env, agent, length=length)
    for index, starts in enumerate(episode_start):
        trajectory = collector.collect()
        assert trajectory.episode_start.tolist() == [starts, starts]
        assert trajectory.core_state.any() == (index > 0)
        logits = agent.unroll(trajectory).logits[:-1].detach()
        expected = torch.distributions.Categorical(logits=logits).log_prob(trajectory.action)
        assert_close(trajectory.log_probability, expected)
        forgetful = replace(trajectory, core_state=torch.zeros_like(trajectory.core_state))
        alike = torch.isclose(agent.unroll(forgetful).logits[0], logits[0]).all()
        assert alike == starts


def test_a_trajectory_keeps_the_memory_that_it_began_with(build_catch, build_agent):
    env = build_catch()
    collector = playing(env, build_agent(env.spec, memory=4), length=4)
    collector.collect()
    second = collector.collect()
    state, episode_start = second.core_state.clone(), second.episode_start.clone()
    collector.collect()
    assert torch.equal(second.core_state, state)
    assert torch.equal(second.episode_start, episode_start)


def test_a_saved_collector_goes_on_bit_for_bit(build_catch, build_agent, tmp_path):
    env = build_catch()
    agent = build_agent(env.spec, memory=4)
    collector = playing(env, agent, length=4)
    collector.collect()
    save_checkpoint(tmp_path, 1, {"collector": collector.state_dict(), "env": env.snapshot()})
    expected = [collector.collect() for _ in range(2)]

    other = build_catch(seed=9)
    resumed = playing(other, agent, length=4, seed=5)
    resumed.collect()
    state = load_checkpoint(tmp_path).state
    resumed.load_state_dict(state["collector"])
    resumed.go_on_from(other.restore(state["env"]))
    for theirs in expected:
        mine = resumed.collect()
        for name in (
            "observation",
            "action",
            "valid",
            "log_probability",
            "core_state",
            "episode_start",
        ):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert resumed.episodes.summary() == collector.episodes.summary()


# Several parts.


class Part(Recorder):
    """Notes when it is sent to and received from."""

    def __init__(self, env, name, turns):
        super().__init__(env)
        self.name, self.turns = name, turns

    def send(self, action):
        self.turns.append(f"send {self.name}")
        super().send(action)

    def receive(self):
        self.turns.append(f"receive {self.name}")
        return super().receive()


def test_one_part_plays_while_the_agent_chooses_for_the_next(build_catch, small_agent):
    turns = []
    parts = [Part(build_catch(1, seed=seed), name, turns) for seed, name in enumerate("ab")]
    playing(VecEnvParts(parts), small_agent, length=2).collect()
    assert turns == [
        *("send a", "send b"),
        *("receive a", "send a", "receive b", "send b"),
        *("receive a", "receive b"),
    ]


def apart(parts, agent, length, generator):
    """Plays each part for itself, by the plainest of loops."""
    observation = [part.reset() for part in parts]
    state = [torch.zeros(part.spec.num_envs, 4) for part in parts]
    starts = [torch.ones(part.spec.num_envs, dtype=torch.bool) for part in parts]
    while True:
        rows = []
        begin = torch.cat(state), torch.cat(starts)
        for _ in range(length):
            cells = []
            for index, part in enumerate(parts):
                choice = agent.act(observation[index], generator, state[index], starts[index])
                step = part.step(choice.action)
                cells.append((observation[index], choice, step))
                observation[index], state[index] = step.observation, choice.core_state
                starts[index] = ~step.valid
            rows.append(cells)
        yield rows, torch.cat(observation), *begin


def column(rows, read):
    return torch.stack([torch.cat([read(*cell) for cell in cells]) for cells in rows])


def test_a_trajectory_of_several_parts_is_that_of_the_parts_played_apart(
    build_catch, build_agent, opinionated
):
    def parts():
        return [build_catch(2, seed=seed) for seed in range(3)]

    env = VecEnvParts(parts())
    agent = opinionated(build_agent(env.spec, memory=4))
    collector = playing(env, agent, length=4, records_value=True)
    slow = apart(parts(), agent, 4, generator(0, "acting", CPU))
    finished = 0
    for _ in range(3):
        trajectory = collector.collect()
        rows, last, core_state, episode_start = next(slow)
        expected = {
            "action": column(rows, lambda seen, choice, step: choice.action),
            "log_probability": column(rows, lambda seen, choice, step: choice.log_probability),
            "reward": column(rows, lambda seen, choice, step: step.reward),
            "terminated": column(rows, lambda seen, choice, step: step.terminated),
            "truncated": column(rows, lambda seen, choice, step: step.truncated),
            "valid": column(rows, lambda seen, choice, step: step.valid),
            "observation": torch.cat([column(rows, lambda seen, *_: seen), last[None]]),
            "core_state": core_state,
            "episode_start": episode_start,
        }
        for name, theirs in expected.items():
            assert torch.equal(getattr(trajectory, name), theirs), name
        values = column(rows, lambda seen, choice, step: choice.value)
        assert torch.equal(trajectory.value[:-1], values)
        finished += int(column(rows, lambda seen, choice, step: step.ended).sum())
    assert collector.episodes.summary().finished == finished > 0


def test_one_part_is_no_part(build_catch, build_agent):
    def played(env):
        collector = playing(env, build_agent(env.spec))
        return [collector.collect() for _ in range(2)]

    for mine, theirs in zip(
        played(VecEnvParts([build_catch()])), played(build_catch()), strict=True
    ):
        assert torch.equal(mine.action, theirs.action)
        assert torch.equal(mine.observation, theirs.observation)
