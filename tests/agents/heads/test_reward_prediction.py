from dataclasses import replace
from math import log

import pytest
import torch
from torch.testing import assert_close

from agents.heads import Heads
from agents.heads.components import replay as replays
from agents.heads.unreal import (
    RewardPredictionConfig,
    balanced_accuracy,
    episode_start,
)
from agents.statistics import masked_mean
from tests.agents.heads.settings import evaluate
from tests.agents.updating import collect

LENGTH, BATCH = 7, 2


def opinion(head, probabilities):
    """Gives a head the same opinion of everything."""
    last = head.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(probabilities).log())
    return head


@pytest.fixture
def sure(context, agent, build_trajectory):
    """The result of a head that says (1/8, 2/8, 5/8), where all rewards are alike."""

    def sure(reward, **options):
        head = opinion(RewardPredictionConfig(**options).build(context), [0.125, 0.25, 0.625])
        trajectory = build_trajectory()
        alike = replace(trajectory, reward=torch.full_like(trajectory.reward, reward))
        return evaluate(head, agent, alike)

    return sure


@pytest.mark.parametrize(("reward", "probability"), [(-2.5, 1 / 8), (0.0, 2 / 8), (0.1, 5 / 8)])
def test_the_loss_is_the_surprise_at_the_sign_of_the_reward(sure, reward, probability):
    # Where there is one kind alone, nothing else can be drawn.
    result = sure(reward)
    assert_close(result.loss, torch.full((1, 2), -log(probability)))
    assert result.valid.all()
    assert result.metrics["rewarding"] == float(reward != 0)
    assert result.metrics["balanced_accuracy"] == float(reward > 0)


def test_so_many_sequences_are_drawn_for_every_environment(sure):
    assert sure(1.0, sequences=3).loss.shape == (3, 2)


def test_at_first_all_signs_are_about_equally_likely(agent, context, build_trajectory):
    result = evaluate(RewardPredictionConfig().build(context), agent, build_trajectory())
    assert_close(result.loss, torch.full((1, 2), log(3.0)), rtol=0.05, atol=0)


@pytest.fixture
def told(build_trajectory):
    """A trajectory whose observations say which, whose and when: (number, environment, time)."""

    def told(number):
        trajectory = build_trajectory(
            length=LENGTH, batch=BATCH, terminated=[(1, 0)], truncated=[(4, 1)], seed=number
        )
        time = torch.arange(LENGTH + 1.0)[:, None].expand(-1, BATCH)
        place = torch.full_like(time, number), torch.arange(float(BATCH)).expand_as(time), time
        observation = torch.stack([*place, *(3 * [torch.zeros_like(time)])], -1)
        reward = trajectory.reward * (torch.rand(LENGTH, BATCH) < 0.3)
        return replace(trajectory, observation=observation, reward=reward)

    return told


def test_sequences_are_the_three_latest_observations_of_an_episode(agent, context, told):
    head = RewardPredictionConfig(sequences=40, replay_steps=3 * LENGTH * BATCH).build(context)
    played = [told(number) for number in range(3)]
    for trajectory in played:
        targets = head.prepare(agent, trajectory)
    assert targets.valid.all()
    drawn = targets.observation.flatten(0, 1)[..., :3].long().tolist()
    signs, seen = targets.sign.flatten().tolist(), set()
    for sequence, sign in zip(drawn, signs, strict=True):
        number, environment, time = sequence[-1]
        source = played[number]
        assert source.valid[time, environment]
        assert sign == int(source.reward[time, environment].sign()) + 1
        # The episode of step t begins after the last invalid step before it.
        start = max([s + 1 for s in range(time) if not source.valid[s, environment]], default=0)
        times = [max(start, time - 2), max(start, time - 1), time]
        assert sequence == [[number, environment, t] for t in times]
        seen.add((number, environment))
    assert len(seen) == 6


@pytest.mark.parametrize(("steps", "sequences"), [(8, 1), (20, 1), (21, 2), (128, 7)])
def test_a_sequence_is_drawn_for_every_twenty_steps(
    agent, context, build_trajectory, steps, sequences
):
    head = RewardPredictionConfig().build(replace(context, unroll_length=steps))
    targets = head.prepare(agent, build_trajectory(length=steps))
    assert targets.sign.shape == (sequences, 2)


def test_half_of_the_sequences_lead_to_a_reward_however_rare(agent, context, build_trajectory):
    trajectory = build_trajectory(length=20)
    reward = torch.zeros(20, 2)
    reward[7, 1] = -3.0
    head = RewardPredictionConfig(sequences=500).build(context)
    targets = head.prepare(agent, replace(trajectory, reward=reward))
    share = (targets.sign == 0).float().mean()
    assert 0.45 < share < 0.55  # a thousand draws: a standard deviation is 0.016
    assert not (targets.sign == 2).any()
    # All that lead to one are the same sequence.
    before = targets.observation[targets.sign == 0]
    assert torch.equal(before, trajectory.observation[5:8, 1].expand_as(before))


def test_an_episode_begins_after_an_invalid_step():
    valid = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0]]).bool()
    expected = [[0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 0, 0], [2, 4, 0], [5, 4, 0]]
    assert episode_start(valid.unsqueeze(0))[0].tolist() == expected


def test_balanced_accuracy_counts_every_class_alike():
    # Negative: 1 of 1; none: 1 of 4; positive does not occur but where it is invalid.
    sign = torch.tensor([[0, 1, 1], [1, 1, 2]])
    guess = torch.tensor([[0, 1, 2], [0, 2, 2]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    logits = torch.nn.functional.one_hot(guess, 3).float()
    assert_close(balanced_accuracy(logits, sign, valid), torch.tensor((1 + 1 / 4) / 2))
    assert balanced_accuracy(logits, sign, torch.zeros_like(valid)).isnan()


def test_it_learns_when_catch_rewards(build_catch, build_agent, context):
    env = build_catch(num_envs=16)
    agent = build_agent(env.spec)
    played = collect(env, agent, 12)
    head = RewardPredictionConfig().build(replace(context, spec=env.spec, torso=agent.torso))
    optimizer = torch.optim.Adam([*head.parameters(), *agent.torso.parameters()], lr=0.01)
    losses, accuracies = [], []
    for trajectory in played * 10:
        result = evaluate(head, agent, trajectory)
        loss = masked_mean(result.loss, result.valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        accuracies.append(float(result.metrics["balanced_accuracy"]))
    # Chance is log 3 nats and 1/3; the last action, which is not seen, decides near the paddle.
    assert sum(losses[-12:]) / 12 < 0.6
    assert sum(accuracies[-12:]) / 12 > 0.6


def test_it_tells_its_memory(agent, context, build_trajectory):
    # 4,096 steps are 683 trajectories of 3 x 2; of each, 2 (4 x 24 + 3 x 19) = 306 bytes.
    head = Heads().reward_prediction.build(context)
    assert head.held_bytes == 683 * 306
    head.prepare(agent, build_trajectory())
    assert head.held_bytes == 683 * 306


def test_a_replay_larger_than_memory_names_its_option(context, monkeypatch):
    monkeypatch.setattr(replays, "free_bytes", lambda device: 10)
    with pytest.raises(ValueError, match=r"^replay_steps 4096 needs"):
        RewardPredictionConfig(replay_steps=4096).build(context)


@pytest.mark.parametrize(
    "options",
    [{"sequences": 0}, {"replay_steps": 0}, {"width": 0}, {"coefficient": -1.0}],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        RewardPredictionConfig(**options)
