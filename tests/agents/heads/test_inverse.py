from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from agents.heads.dynamics import InverseConfig
from tests.agents.heads.places import A, B, F, T, build_place, learn
from tests.agents.heads.settings import evaluate


@pytest.fixture
def place():
    return build_place()


def always(head, probabilities):
    """Makes a head's guess the same everywhere."""
    with torch.no_grad():
        head.predict[-1].weight.zero_()
        head.predict[-1].bias.copy_(torch.tensor(probabilities).log())
    return head


def test_the_loss_is_the_cross_entropy_of_the_action_taken(place):
    head = always(InverseConfig().build(place.context), [0.5, 0.25, 0.125, 0.125])
    action = torch.tensor([[0, 1], [2, 3], [0, 0]])
    result = evaluate(head, place.agent, place.play(action=action))
    bits = torch.tensor([[1.0, 2.0], [3.0, 3.0], [1.0, 1.0]])
    assert_close(result.loss, bits * log(2.0))
    # Action 0 is guessed always, and taken three times of six.
    assert result.metrics["accuracy"] == 0.5


def test_the_guess_is_made_from_the_features_before_and_after(place):
    head, trajectory = InverseConfig(hidden=3).build(place.context), place.play(ends=[(0, 1)])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    result = evaluate(head, place.agent, trajectory)
    features = place.agent.torso(trajectory.observation.flatten(0, 1)).features
    features = features.detach().numpy().reshape(T + 1, B, F)
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in head.parameters())
    for t in range(T):
        for b in range(B):
            pair = np.concatenate([features[t, b], features[t + 1, b]])
            logits = w2 @ np.maximum(w1 @ pair + b1, 0) + b2
            probabilities = np.exp(logits) / np.exp(logits).sum()
            expected = -np.log(probabilities[trajectory.action[t, b]])
            assert float(result.loss[t, b].detach()) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(result.valid, trajectory.valid)


def test_chance_is_the_guess_of_one_who_knows_the_policy(place):
    with torch.no_grad():
        place.agent.policy.weight.zero_()
        place.agent.policy.bias.copy_(torch.tensor([0.1, 0.6, 0.1, 0.2]).log())
    result = evaluate(InverseConfig().build(place.context), place.agent, place.play())
    assert_close(result.metrics["chance"], torch.tensor(0.6))


def test_metrics_are_over_valid_steps(place):
    head = always(InverseConfig().build(place.context), [0.7, 0.1, 0.1, 0.1])
    action = torch.tensor([[0, 0], [0, 1], [1, 1]])
    trajectory = place.play(action=action, ends=[(0, 0)])
    # Step (1, 0) does not count: 2 right of 5.
    assert_close(evaluate(head, place.agent, trajectory).metrics["accuracy"], torch.tensor(0.4))


def test_the_true_last_observation_of_an_episode_counts(place):
    head, trajectory = InverseConfig().build(place.context), place.play(ends=[(0, 0)])
    before = evaluate(head, place.agent, trajectory).loss
    observation = trajectory.observation.clone()
    observation[1, 0] += 1.0  # what step 0 of environment 0, its last, led to
    after = evaluate(head, place.agent, replace(trajectory, observation=observation)).loss
    changed = (before != after) & trajectory.valid
    assert changed.tolist() == [[True, False], [False, False], [False, False]]


def test_the_loss_falls_where_actions_move_what_is_seen():
    place = build_place(widths=(32, 16))
    action = torch.randint(A, (8, 8), generator=torch.Generator().manual_seed(1))
    observation = torch.randn(9, 8, 6, generator=torch.Generator().manual_seed(2))
    for t in range(8):
        # Action a moves entry a by 1, nothing else changes.
        observation[t + 1] = observation[t] + torch.nn.functional.one_hot(action[t], 6)
    trajectory = place.play(8, 8, observation=observation / 4, action=action)
    head = InverseConfig().build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 60, learning_rate=1e-2)
    assert losses[0] == pytest.approx(log(A), abs=0.1)
    assert losses[-1] < 0.2
    assert metrics["accuracy"] > 0.95
    assert metrics["chance"] < 0.35


def test_there_must_be_actions_to_tell_apart(place):
    spec = replace(place.context.spec, num_actions=1)
    with pytest.raises(ValueError, match=r"^aux inverse has nothing to tell apart in Made"):
        InverseConfig().build(replace(place.context, spec=spec))


def test_the_hidden_layer_is_that_of_the_paper_or_as_narrow_as_the_torso(place):
    wide = build_place(widths=(300,))
    heads = [InverseConfig().build(each.context) for each in (wide, place)]
    assert [len(head.predict[0].weight) for head in heads] == [256, F]


@pytest.mark.parametrize("options", [{"coefficient": -1.0}, {"hidden": 0}])
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        InverseConfig(**options)
