from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.spr import SprConfig, latent_of, likeness, rescaled
from agents.networks.torsos import TorsoOutput
from tests.agents.heads.places import B, T, build_place, learn
from tests.agents.heads.settings import evaluate

ALL = {"fraction": 1.0, "jumps": 2}


@pytest.fixture
def place():
    return build_place()


@pytest.mark.parametrize(
    ("goal", "expected"),
    # 2 - 2 cos: the same direction, a right angle, the opposite, 60 degrees.
    [
        ([1.0, 0.0, 0.0, 0.0, 0.0], 0.0),
        ([0.0, 0.0, 1.0, 0.0, 0.0], 2.0),
        ([-1.0, 0.0, 0.0, 0.0, 0.0], 4.0),
        ([0.5, 0.75**0.5, 0.0, 0.0, 0.0], 1.0),
    ],
)
def test_the_loss_is_2_less_twice_the_cosine(place, goal, expected):
    head = SprConfig(jumps=1, fraction=1.0).build(place.context)
    with torch.no_grad():
        head.predict.weight.zero_()
        head.predict.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]))
    trajectory = place.play()
    targets = head.prepare(place.agent, trajectory)
    goals = replace(targets, goal=torch.tensor(goal).expand_as(targets.goal))
    result = head(place.agent, place.agent.unroll(trajectory), trajectory, goals)
    assert_close(result.loss, torch.full((1, T, B), expected))
    assert_close(result.metrics["similarity"], torch.tensor(1 - expected / 2))


def test_each_jump_is_predicted_from_the_one_before_and_its_action(place):
    head = SprConfig(**ALL).build(place.context)
    trajectory = place.play(length=4, ends=[(1, 0)])
    result = evaluate(head, place.agent, trajectory)
    assert result.loss.shape == (2, 4, B)

    def target(t, b):
        goal = latent_of(head.target(trajectory.observation[t, b][None]))[0]
        return goal / goal.norm()

    for t in range(4):
        for b in range(B):
            latent = latent_of(place.agent.torso(trajectory.observation[t, b][None]))
            alive = True
            for k in (1, 2):
                step = t + k - 1
                # All steps of a jump lie in the trajectory and none only resets.
                alive = alive and step < 4 and bool(trajectory.valid[step, b])
                assert bool(result.valid[k - 1, t, b]) == alive
                if not alive:
                    continue
                latent = rescaled(head.transition(latent, trajectory.action[step, b][None]))
                guess = head.predict(latent)[0]
                cosine = guess @ target(t + k, b) / guess.norm()
                assert_close(result.loss[k - 1, t, b], 2 - 2 * cosine, rtol=1e-4, atol=1e-5)


def test_no_jump_leads_beyond_an_end_or_the_trajectory(place):
    head = SprConfig(fraction=1.0, jumps=3).build(place.context)
    result = evaluate(head, place.agent, place.play(ends=[(0, 0)]))
    # Environment 0 ends with step 0, and step 1 only resets; environment 1 goes on.
    by_environment = result.valid.movedim(-1, 0).int().tolist()
    assert by_environment[0] == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert by_environment[1] == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


def test_nothing_after_an_end_reaches_a_jump_before_it(place):
    head = SprConfig(**ALL).build(place.context)
    trajectory = place.play(length=4, ends=[(1, 0), (1, 1)])
    before = evaluate(head, place.agent, trajectory)
    observation, action = trajectory.observation.clone(), trajectory.action.clone()
    observation[3:] += 5.0  # observation[2] is the true last one
    action[2:] = 3 - action[2:]
    after = evaluate(head, place.agent, replace(trajectory, observation=observation, action=action))
    assert torch.equal(before.valid, after.valid)
    for jump, steps in ((0, 2), (1, 1)):
        assert torch.equal(before.loss[jump, :steps], after.loss[jump, :steps])
    # It would be seen: of steps 0 and 1, the one jump that leads to observation[2] counts.
    observation[2] += 5.0
    other = evaluate(head, place.agent, replace(trajectory, observation=observation))
    assert (other.loss[0, 1] != before.loss[0, 1]).all()


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_goals_are_the_same_whether_some_or_all_observations_are_looked_at(place, fraction):
    # 1 step and 2 jumps are fewer than 10 observations, 5 steps and 2 jumps are not.
    head = SprConfig(fraction=fraction, jumps=2).build(place.context)
    trajectory = place.play(length=10)
    targets = head.prepare(place.agent, trajectory)
    starts = round(10 * fraction)
    assert targets.goal.shape == (2 * starts, B, 5)
    for jump in (1, 2):
        for start in range(starts):
            for b in range(B):
                after = min(int(targets.step[start, b]) + jump, 10)
                goal = latent_of(place.agent.torso(trajectory.observation[after, b][None]))[0]
                place_of_goal = (jump - 1) * starts + start
                assert_close(targets.goal[place_of_goal, b], (goal / goal.norm()).detach())


def test_latents_are_stretched_to_0_to_1_each_by_itself():
    latent = torch.tensor([[1.0, 3.0, 2.0], [-4.0, 0.0, -4.0], [7.0, 7.0, 7.0]])
    expected = torch.tensor([[0.0, 1.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert_close(rescaled(latent), expected, rtol=0, atol=1e-5)
    spatial = torch.rand(2, 3, 4, 5)
    assert_close(rescaled(spatial).flatten(1), rescaled(spatial.flatten(1)))


def test_a_latent_is_the_feature_map_where_there_is_one():
    features, spatial = torch.rand(2, 5), torch.rand(2, 3, 4, 4)
    assert torch.equal(latent_of(TorsoOutput(features, spatial)), rescaled(spatial))
    assert torch.equal(latent_of(TorsoOutput(features)), rescaled(features))


def test_the_likeness_of_targets_is_1_if_they_have_collapsed():
    same = torch.tensor([0.6, 0.8]).expand(3, 2, 2)
    opposite = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    valid = torch.ones(3, 2, dtype=torch.bool)
    assert_close(likeness(same, valid), torch.tensor(1.0))
    assert_close(likeness(opposite, valid[:1]), torch.tensor(0.0))
    # Two at a right angle: pairs 1, 0, 0, 1.
    angle = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert_close(likeness(angle, valid[:1]), torch.tensor(0.5))
    assert_close(likeness(opposite, torch.tensor([[True, False]])), torch.tensor(1.0))


def test_a_jump_that_no_step_reaches_is_not_measured(place):
    head = SprConfig(fraction=1.0, jumps=3).build(place.context)
    metrics = evaluate(head, place.agent, place.play(ends=[(0, 0), (0, 1)])).metrics
    assert metrics["first_similarity"].isfinite()
    assert metrics["last_similarity"].isnan()


def test_the_target_follows_and_is_not_trained(place):
    head = SprConfig(momentum=0.75).build(place.context)
    names = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert names == {"transition", "predict"}
    weight = place.agent.torso.layers[0].weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
    head.after_update(place.agent)
    assert_close(head.target.network.layers[0].weight, before + 0.25)


def test_feature_maps_are_projected_by_the_layers_above_them():
    place = build_place("image")
    head, trajectory = SprConfig(jumps=1, fraction=1.0).build(place.context), place.play()
    # Features that no image turns off, so that there is something to compare.
    for torso in (place.agent.torso, head.target.network):
        with torch.no_grad():
            torso.dense.bias.fill_(1.0)
    result = evaluate(head, place.agent, trajectory)
    dense = place.agent.torso.dense
    for t in range(T):
        for b in range(B):
            action = trajectory.action[t, b][None]
            maps = (place.agent.torso(trajectory.observation[i, b][None]) for i in (t, t + 1))
            before, after = map(latent_of, maps)
            moved = rescaled(head.transition(before, action))
            guess = head.predict(dense(moved.flatten(1)).relu())[0]
            goal = dense(after.flatten(1)).relu()[0]
            cosine = guess @ goal / (guess.norm() * goal.norm())
            assert_close(result.loss[0, t, b], 2 - 2 * cosine, rtol=1e-3, atol=1e-4)


def test_images_have_a_transition_of_convolutions():
    place = build_place("image")
    head = SprConfig().build(place.context)
    map_before = torch.rand(2, 64, 7, 7)
    after = head.transition(map_before, torch.tensor([0, 3]))
    assert after.shape == map_before.shape
    other = head.transition(map_before, torch.tensor([0, 2]))
    assert torch.equal(after[0], other[0])
    assert (after[1] != other[1]).any()


def test_the_loss_falls_where_the_future_follows_from_the_actions():
    place = build_place(widths=(32, 16), unroll_length=8)
    action = torch.randint(4, (8, 8), generator=torch.Generator().manual_seed(1))
    observation = torch.zeros(9, 8, 6)
    observation[0] = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    for t in range(8):
        # Everything rolls by one place, and action a adds 1 to entry a.
        rolled = observation[t].roll(1, dims=-1)
        observation[t + 1] = 0.9 * rolled + torch.nn.functional.one_hot(action[t], 6)
    trajectory = place.play(8, 8, observation=observation / 2, action=action)
    head = SprConfig(fraction=1.0).build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 80, learning_rate=1e-2)
    assert losses[-1] < losses[0] / 5
    # Nearer to its target than targets are to each other, five steps ahead too.
    assert 1 - metrics["last_similarity"] < (1 - metrics["target_similarity"]) / 2


def test_jumps_are_five_or_as_many_as_a_trajectory_holds():
    assert SprConfig().build(build_place(unroll_length=8).context).jumps == 5
    assert SprConfig().build(build_place(unroll_length=2).context).jumps == 2
    with pytest.raises(ValueError, match=r"^jumps 3 looks further .* unroll_length"):
        SprConfig(jumps=3).build(build_place(unroll_length=2).context)


@pytest.mark.parametrize(
    "options",
    [
        {"coefficient": -1.0},
        {"jumps": 0},
        {"fraction": 0.0},
        {"momentum": -0.1},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must"):
        SprConfig(**options)
