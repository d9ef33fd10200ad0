from dataclasses import replace
from math import log

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from agents.heads.components.views import RandomMask, RandomShift
from agents.heads.curl import CurlConfig, contrast, reaching
from tests.agents.heads.places import B, F, T, build_place, learn
from tests.agents.heads.settings import evaluate


@pytest.fixture
def place():
    return build_place()


def loss_of(logits, valid):
    """The loss where query i scores key j as logits[i, j] says."""
    scores = contrast(logits, torch.eye(len(logits)), torch.tensor(valid))
    return scores.logsumexp(-1) - scores.diagonal()


def test_the_loss_is_the_cross_entropy_of_the_own_key():
    # Logits log 3 for the own key of two, log 2 for the other one of the second query.
    logits = torch.tensor([[log(3.0), 0.0], [log(2.0), log(3.0)]])
    # -log 3/4 and -log 3/5.
    assert_close(loss_of(logits, [True, True]), torch.tensor([log(4 / 3), log(5 / 3)]))


def test_an_invalid_step_is_no_key_of_others():
    logits = torch.tensor([[log(3.0), 0.0, 9.0], [log(2.0), log(3.0), 9.0], [1.0, 2.0, 3.0]])
    loss = loss_of(logits, [True, True, False])
    assert_close(loss[:2], torch.tensor([log(4 / 3), log(5 / 3)]))
    assert loss[2].isfinite()
    assert loss_of(logits, [False, False, False]).isfinite().all()


def test_queries_and_keys_are_projected_and_compared_by_a_bilinear_form(place):
    head = CurlConfig(fraction=1.0, hidden=4, width=3).build(place.context)
    with torch.no_grad():
        head.bilinear.normal_()
    trajectory = place.play(ends=[(0, 1)])
    targets = head.prepare(place.agent, trajectory)
    output = place.agent.unroll(trajectory)
    result = head(place.agent, output, trajectory, targets)

    def project(observation):
        features = place.agent.torso(observation[None]).features[0].detach().numpy()
        w1, b1, _, _, w2, b2, _, _ = (p.detach().numpy() for p in head.project.parameters())
        hidden = w1 @ features + b1
        hidden = np.maximum((hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5), 0)
        last = w2 @ hidden + b2
        return (last - last.mean()) / np.sqrt(last.var() + 1e-5)

    # Step (1, 1) is invalid; all steps are drawn, in order.
    places = [(t, b) for t in range(T) for b in range(B) if (t, b) != (1, 1)]
    form = head.bilinear.detach().numpy()
    for t, b in places:
        query = project(targets.query[t, b])
        scores = [0.1 * query @ form @ targets.key[place].numpy() for place in places]
        own = scores[places.index((t, b))]
        expected = -own + np.log(np.exp(scores).sum())
        assert float(result.loss[t, b].detach()) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(result.valid, trajectory.valid)
    assert_close(result.metrics["chance"], torch.tensor(1 / 5))


def test_a_key_is_what_the_copy_makes_of_the_observation(place):
    # Nothing is hidden, so both versions are the observation itself.
    head = CurlConfig(fraction=1.0, mask=0.0).build(place.context)
    trajectory = place.play()
    targets = head.prepare(place.agent, trajectory)
    assert torch.equal(targets.query, trajectory.observation[:-1])
    features = place.agent.torso(trajectory.observation[:-1].flatten(0, 1)).features
    assert_close(targets.key.flatten(0, 1), head.project(features).detach())


def test_a_key_ahead_is_of_a_later_observation_of_the_same_episode(place):
    head = CurlConfig(fraction=1.0, mask=0.0, ahead=2).build(place.context)
    # The first environment's episode ends with step 2, whose observation is number 3.
    trajectory = place.play(length=6, ends=[(2, 0)])
    targets = head.prepare(place.agent, trajectory)
    drawn = targets.valid.T.tolist()
    # Steps 0 and 1 reach 2 and 3; 2 ends, 3 does not count, 4 reaches the last one.
    assert drawn[0] == [True, True, False, False, True, False]
    assert drawn[1] == [True] * 5 + [False]
    features = place.agent.torso(trajectory.observation[2:].flatten(0, 1)).features
    expected = head.project(features).detach().view(5, B, -1)
    assert_close(targets.key[:5][targets.valid[:5]], expected[targets.valid[:5]])
    assert torch.equal(targets.query, trajectory.observation[:-1])


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 6), st.just(2))),
    st.integers(0, 7),
)
def test_a_step_reaches_as_far_as_all_steps_between_count(valid, ahead):
    length = len(valid)
    expected = [
        [t + ahead <= length and all(valid[t : t + max(1, ahead), b]) for b in range(2)]
        for t in range(length)
    ]
    assert reaching(torch.from_numpy(valid), ahead).tolist() == expected


def test_further_ahead_than_a_trajectory_is_refused(place):
    assert CurlConfig(ahead=place.context.unroll_length).build(place.context).ahead > 0
    with pytest.raises(ValueError, match=r"^ahead 99 is further than a trajectory"):
        CurlConfig(ahead=99).build(place.context)
    with pytest.raises(ValueError, match=r"^ahead must be 0 or more, not -1"):
        CurlConfig(ahead=-1)


def test_an_observation_is_changed_in_two_ways(place):
    head = CurlConfig(fraction=1.0, mask=0.5).build(place.context)
    trajectory = place.play(length=20)
    targets = head.prepare(place.agent, trajectory)
    # The query's zeros are where it was hidden; another key came of another mask.
    hidden = targets.query == 0
    assert 0.35 < float(hidden.float().mean()) < 0.65
    same = place.agent.torso(targets.query.flatten(0, 1)).features
    alike = (head.project(same) - targets.key.flatten(0, 1)).abs().amax(-1) < 1e-5
    # Two masks of six entries agree with probability 2^-6.
    assert alike.float().mean() < 0.2


def test_features_that_have_collapsed_find_nothing(place):
    head = CurlConfig(fraction=1.0).build(place.context)
    with torch.no_grad():
        place.agent.torso.layers[0].weight.zero_()
        head.key_torso.follow(place.agent.torso)
    assert evaluate(head, place.agent, place.play()).metrics["retrieval"] == 0.0


def test_images_are_shifted_and_everything_else_is_masked():
    assert isinstance(CurlConfig().build(build_place("image").context).change, RandomShift)
    for kind in ("window", "board", "vector"):
        assert isinstance(CurlConfig().build(build_place(kind).context).change, RandomMask)


def test_what_an_invalid_step_saw_changes_nothing(place):
    head = CurlConfig(fraction=1.0).build(place.context)
    trajectory = place.play(ends=[(0, 1)])
    observation = trajectory.observation.clone()
    observation[1, 1] += 3.0
    state = head.state_dict()
    before = evaluate(head, place.agent, trajectory)
    head.load_state_dict(state)
    after = evaluate(head, place.agent, replace(trajectory, observation=observation))
    assert torch.equal(before.loss[before.valid], after.loss[after.valid])
    assert_close(before.metrics, after.metrics, rtol=0, atol=0)


def test_the_key_encoder_follows_and_is_not_trained(place):
    head = CurlConfig(momentum=0.5).build(place.context)
    names = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert names == {"project", "bilinear"}
    weight = place.agent.torso.layers[0].weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
        head.project[0].weight += 1.0
    projection = head.project[0].weight.detach().clone()
    head.after_update(place.agent)
    assert_close(head.key_torso.network.layers[0].weight, before + 0.5)
    assert_close(head.key_project.network[0].weight, projection - 0.5)


def test_a_fraction_of_the_steps_is_looked_at(place):
    trajectory = place.play(length=10)
    targets = CurlConfig(fraction=0.3).build(place.context).prepare(place.agent, trajectory)
    assert targets.query.shape == (3, B, 6)
    assert targets.key.shape == (3, B, F)


def test_the_projection_is_that_of_the_authors_or_as_narrow_as_the_torso():
    wide = CurlConfig().build(build_place(widths=(300,)).context)
    narrow = CurlConfig().build(build_place().context)
    assert [len(head.project[0].weight) for head in (wide, narrow)] == [256, F]
    assert [len(head.bilinear) for head in (wide, narrow)] == [128, F]
    assert len(CurlConfig(width=7).build(build_place().context).bilinear) == 7


def test_the_loss_falls_and_keys_are_found_where_observations_differ():
    place = build_place("board", widths=(32, 16))
    trajectory = place.play(8, 8)
    head = CurlConfig(fraction=1.0, momentum=0.9).build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 60, learning_rate=1e-2)
    assert losses[-1] < losses[0] / 3
    assert metrics["chance"] == pytest.approx(1 / 64)
    assert metrics["retrieval"] > 0.9


def test_random_numbers_go_on_from_a_checkpoint(place):
    first, second = CurlConfig().build(place.context), CurlConfig().build(place.context)
    trajectory = place.play(length=10)
    first.prepare(place.agent, trajectory)
    second.load_state_dict(first.state_dict())
    expected = first.prepare(place.agent, trajectory)
    assert_close(vars(second.prepare(place.agent, trajectory)), vars(expected), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "options", "cure"),
    [("image", {"mask": 0.2}, "use shift"), ("board", {"shift": 4}, "use mask")],
)
def test_an_option_that_would_do_nothing_is_refused(kind, options, cure):
    with pytest.raises(ValueError, match=cure):
        CurlConfig(**options).build(build_place(kind).context)


def test_a_shift_that_leaves_nothing_to_see_is_refused():
    place = build_place("image")
    side = min(place.context.spec.observation_shape[-2:])
    with pytest.raises(ValueError, match=f"^shift {side} moves all of an image"):
        CurlConfig(shift=side).build(place.context)
    CurlConfig(shift=side - 1).build(place.context)


@pytest.mark.parametrize(
    "options",
    [
        {"coefficient": -1.0},
        {"fraction": 0.0},
        {"fraction": 1.1},
        {"momentum": 1.1},
        {"hidden": 1},
        {"width": 1},
        {"shift": -1},
        {"mask": 1.0},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must"):
        CurlConfig(**options)
