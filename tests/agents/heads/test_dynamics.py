import numpy as np
import pytest
import torch
from torch.testing import assert_close

from agents.heads.dynamics import ForwardConfig
from agents.trajectory import AgentOutput
from tests.agents.heads.places import A, B, F, T, build_place, learn
from tests.agents.heads.settings import evaluate


@pytest.fixture
def place():
    return build_place()


def seen(torso):
    """An output that holds features alone."""
    return AgentOutput(None, torso, torso, torch.zeros(T + 1, B, A), torch.zeros(T + 1, B))


def test_the_loss_is_half_the_squared_distance_to_the_next_features(place):
    head, trajectory = ForwardConfig().build(place.context), place.play()
    with torch.no_grad():
        head.predict[-1].weight.zero_()
        head.predict[-1].bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]))
    torso = torch.zeros(T + 1, B, F)
    torso[1, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    torso[2, 0] = torch.tensor([0.0, 2.0, 0.0, 0.0, 0.0])
    result = head(place.agent, seen(torso), trajectory, head.prepare(place.agent, trajectory))
    # 0; (1 + 4) / 2; everywhere else 1 / 2.
    assert_close(result.loss, torch.tensor([[0.0, 0.5], [2.5, 0.5], [0.5, 0.5]]))
    # A constant explains nothing.
    assert_close(result.metrics["explained_variance"], torch.tensor(0.0))


def test_persistence_is_what_the_present_features_explain(place):
    head, trajectory = ForwardConfig().build(place.context), place.play()
    torso = torch.zeros(T + 1, B, F)
    # Entry 0 is 0, 1, 2, 3 in time in both environments: the targets 1, 2, 3 vary by 2/3, and
    # what is left of them after the present ones, 1 everywhere, by 0.
    torso[..., 0] = torch.arange(4.0).unsqueeze(-1)
    targets = head.prepare(place.agent, trajectory)
    metrics = head(place.agent, seen(torso), trajectory, targets).metrics
    assert_close(metrics["persistence"], torch.tensor(1.0))
    # Entry 1 is 1 at odd times: targets 1, 0, 1 vary by 2/9, their differences 1, -1, 1 by 8/9.
    torso[1::2, :, 1] = 1.0
    metrics = head(place.agent, seen(torso), trajectory, targets).metrics
    assert_close(metrics["persistence"], torch.tensor(1 - (8 / 9) / (2 / 3 + 2 / 9)))


def test_the_prediction_is_made_from_features_and_action(place):
    head, trajectory = ForwardConfig(hidden=3).build(place.context), place.play(ends=[(0, 1)])
    result = evaluate(head, place.agent, trajectory)
    features = place.agent.torso(trajectory.observation.flatten(0, 1)).features
    features = features.detach().numpy().reshape(T + 1, B, F)
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in head.parameters())
    for t in range(T):
        for b in range(B):
            inputs = np.concatenate([features[t, b], np.eye(A)[trajectory.action[t, b]]])
            predicted = w2 @ np.maximum(w1 @ inputs + b1, 0) + b2
            expected = 0.5 * np.square(predicted - features[t + 1, b]).sum()
            assert float(result.loss[t, b].detach()) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(result.valid, trajectory.valid)


def test_the_target_is_not_drawn_to_the_prediction(place):
    head, trajectory = ForwardConfig().build(place.context), place.play()
    torso = torch.randn(T + 1, B, F, requires_grad=True)
    result = head(place.agent, seen(torso), trajectory, head.prepare(place.agent, trajectory))
    (gradient,) = torch.autograd.grad(result.loss[1].sum(), torso)
    assert gradient[1].all()  # what is predicted from
    assert not gradient[2].any()  # what is predicted
    assert not gradient[[0, 3]].any()


def test_the_loss_falls_where_the_future_follows_from_the_action():
    place = build_place(widths=(32, 16))
    action = torch.randint(A, (8, 8), generator=torch.Generator().manual_seed(1))
    observation = torch.zeros(9, 8, 6)
    observation[0] = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    for t in range(8):
        # Everything rolls by one place, and action a adds 1 to entry a.
        rolled = observation[t].roll(1, dims=-1)
        observation[t + 1] = 0.9 * rolled + torch.nn.functional.one_hot(action[t], 6)
    trajectory = place.play(8, 8, observation=observation / 4, action=action)
    head = ForwardConfig(hidden=64).build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 80, learning_rate=1e-2)
    assert losses[-1] < losses[0] / 3
    assert metrics["explained_variance"] > 0.8
    assert metrics["explained_variance"] > metrics["persistence"] + 0.3


def test_the_hidden_layer_is_that_of_the_paper_or_as_narrow_as_the_torso(place):
    wide = build_place(widths=(300,))
    heads = [ForwardConfig().build(each.context) for each in (wide, place)]
    assert [len(head.predict[0].weight) for head in heads] == [256, F]


@pytest.mark.parametrize("options", [{"coefficient": -1.0}, {"hidden": 0}])
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        ForwardConfig(**options)
