import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.heads.components.delay import LONGEST, Delay
from agents.heads.distill import DistillConfig
from agents.networks.recurrent import GRUConfig
from agents.teachers import NetworkTeacher, TableTeacher

B, A = 3, 2


def played(lengths, ends, seed):
    """Answers and resets of consecutive trajectories; `ends` is the probability of a last step."""
    draws = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    logits = torch.randn(total + 1, B, A, generator=draws)
    reset = torch.rand(total + 1, B, generator=draws) < ends
    reset[0] = True
    start = 0
    for length in lengths:
        yield logits[start : start + length], reset[start : start + length + 1]
        start += length


def slow(trajectories, steps):
    """Step by step and environment by environment, with all answers of the episode at hand."""
    episodes, said = [[] for _ in range(B)], []
    for logits, reset in trajectories:
        for answer, opens in zip(logits, reset[:-1], strict=True):
            for number, episode in enumerate(episodes):
                if opens[number]:
                    episode.clear()
                episode.append(answer[number])
            said.append(torch.stack([e[max(0, len(e) - 1 - steps)] for e in episodes]))
    return torch.stack(said)


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    ends=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    steps=st.integers(1, 12),
    seed=st.integers(0, 2**20),
)
def test_answers_are_those_of_a_slow_loop(lengths, ends, steps, seed):
    trajectories, delay = list(played(lengths, ends, seed)), Delay(steps, B, A)
    late = torch.cat([delay(*each) for each in trajectories])
    assert torch.equal(late, slow(trajectories, steps))


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(1, 4), steps=st.integers(1, 12), seed=st.integers(0, 2**20))
def test_a_resumed_delay_says_what_the_whole_one_would_have_said(cut, steps, seed):
    trajectories = list(played([4, 1, 7, 2, 3], 0.1, seed))
    whole, resumed = Delay(steps, B, A), Delay(steps, B, A)
    expected = [whole(*each) for each in trajectories]
    first = Delay(steps, B, A)
    for each in trajectories[:cut]:
        first(*each)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    said = [resumed(*each) for each in trajectories[cut:]]
    assert torch.equal(torch.cat(said), torch.cat(expected[cut:]))


def test_other_environments_than_those_of_the_checkpoint_begin_anew():
    whole, half = Delay(2, 4, A), Delay(2, 2, A)
    whole(torch.ones(5, 4, A), torch.zeros(6, 4, dtype=torch.bool))
    half.load_state_dict(whole.state_dict())
    logits, reset = torch.randn(3, 2, A), torch.zeros(4, 2, dtype=torch.bool)
    assert torch.equal(half(logits, reset), logits[[0, 0, 0]])


def test_a_delayed_teacher_answers_to_old_observations(context, agent, teacher, build_trajectory):
    trajectory = build_trajectory(length=6, truncated=[(2, 0)])
    # Environment 0 opens an episode at step 4, after the invalid step 3.
    ages = torch.tensor([[0, 0, 1, 2, 4, 4], [0, 0, 1, 2, 3, 4]]).T
    old = trajectory.observation[ages, torch.arange(2)]
    shown = replace(trajectory, observation=torch.cat([old, trajectory.observation[-1:]]))
    expected = DistillConfig().build(context).prepare(agent, shown).probabilities
    late = DistillConfig(delay=1).build(context).prepare(agent, trajectory).probabilities
    assert_close(late, expected)


def test_a_teacher_that_remembers_says_late_what_it_would_have_said(
    context, agent, spec, build_agent, opinionated, build_trajectory
):
    remembers = opinionated(build_agent(spec, seed=1))
    remembers.core = GRUConfig(remembers.torso.num_features).build(remembers.torso.num_features, 4)
    card = context.load_teacher("").card
    own = replace(context, load_teacher=lambda path: NetworkTeacher(remembers, card))
    trajectories = [build_trajectory(seed=seed) for seed in (1, 2)]
    prompt, late = (DistillConfig(delay=delay).build(own) for delay in (0, 2))
    expected, found = (
        torch.cat([head.prepare(agent, each).probabilities for each in trajectories])
        for head in (prompt, late)
    )
    assert torch.equal(found, expected[[0, 0, 0, 1, 2, 3]])


def test_a_table_answers_late(context, agent, build_trajectory):
    table = TableTeacher(torch.eye(4), "a table")
    own = replace(context, load_teacher=lambda path: table)
    state = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    trajectory = replace(build_trajectory(), state=state)
    late = DistillConfig(delay=1, temperature=0.0).build(own).prepare(agent, trajectory)
    assert late.probabilities.argmax(-1).tolist() == [[0, 1], [0, 1], [1, 2]]


@pytest.mark.parametrize("steps", [-1, LONGEST + 1])
def test_a_delay_is_bounded(steps):
    with pytest.raises(ValueError, match=r"^delay must be from 0 to 32 agent steps, not "):
        DistillConfig(delay=steps)
