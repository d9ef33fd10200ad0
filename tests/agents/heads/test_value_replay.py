from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads import Heads
from agents.heads.components import replay as replays
from agents.heads.value_replay import ValueReplayConfig
from agents.statistics import masked_mean
from tests.agents.heads.settings import B, T, evaluate, make_setting
from tests.agents.updating import collect


@pytest.fixture
def constant(agent):
    """Gives an agent the same value everywhere."""

    def constant(value):
        with torch.no_grad():
            agent.value.weight.zero_()
            agent.value.bias.fill_(value)
        return agent

    return constant


@pytest.fixture
def two_steps(build_trajectory):
    """Rewards 1 and 3 of a single environment."""
    trajectory = build_trajectory(length=2, batch=1)
    return replace(trajectory, reward=torch.tensor([[1.0], [3.0]]))


ENDS = torch.tensor([[False], [True]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # Discount 0.9, value 10: R_1 = 3 + 9 = 12, R_0 = 1 + 0.9 * 12 = 11.8.
        ({}, [0.5 * 1.8**2, 0.5 * 2.0**2]),
        # A time limit bootstraps just so.
        ({"truncated": ENDS}, [0.5 * 1.8**2, 0.5 * 2.0**2]),
        # Nothing after a termination: R_1 = 3, R_0 = 1 + 2.7 = 3.7.
        ({"terminated": ENDS}, [0.5 * 6.3**2, 0.5 * 7.0**2]),
    ],
)
def test_the_loss_is_half_the_squared_distance_to_the_return(
    constant, context, two_steps, change, expected
):
    head = ValueReplayConfig().build(context)
    result = evaluate(head, constant(10.0), replace(two_steps, **change))
    assert_close(result.loss.flatten(), torch.tensor(expected))


def test_without_a_trace_targets_are_one_step_differences(constant, context, two_steps):
    # R_t = r_t + 0.9 * 10: 10 and 12.
    head = ValueReplayConfig(trace=0.0).build(context)
    result = evaluate(head, constant(10.0), two_steps)
    assert_close(result.loss.flatten(), torch.tensor([0.0, 2.0]))


def test_targets_follow_the_present_value(constant, context, two_steps):
    head = ValueReplayConfig().build(context)
    agent = constant(10.0)
    targets = head.prepare(agent, two_steps)
    agent = constant(0.0)
    result = head(agent, agent.unroll(two_steps), two_steps, targets)
    # R_1 = 3, R_0 = 3.7, and the value is 0.
    assert_close(result.loss.flatten(), torch.tensor([0.5 * 3.7**2, 0.5 * 3.0**2]))


@pytest.mark.parametrize("kind", ["vector", "image", "memory"])
def test_a_replayed_trajectory_is_valued_as_it_was_played(kind, build_trajectory):
    setting = make_setting(kind)
    trajectory = setting.fill(build_trajectory(truncated=[(0, 0)], terminated=[(1, 1)]))
    head, agent = ValueReplayConfig(fraction=1.0).build(setting.context), setting.agent
    replayed = head.prepare(agent, trajectory).trajectory
    played = agent.unroll(trajectory).value
    # Rewards tell whose column it is.
    columns = [
        int((trajectory.reward == column[:, None]).all(0).nonzero()[0, 0])
        for column in replayed.reward.unbind(1)
    ]
    assert_close(agent.unroll(replayed).value, played[:, columns])


def test_any_column_of_any_trajectory_comes_back(agent, context, build_trajectory):
    head, seen = ValueReplayConfig(replay_steps=3 * T * B).build(context), set()
    for number in range(60):
        reward = torch.full((T, B), 10.0 * (number % 3)) + torch.arange(B)
        trajectory = replace(build_trajectory(), reward=reward)
        seen |= set(head.prepare(agent, trajectory).trajectory.reward[0].tolist())
    assert seen == {0.0, 1.0, 10.0, 11.0, 20.0, 21.0}


@pytest.mark.parametrize(("fraction", "columns"), [(0.1, 1), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_a_fraction_of_the_environments_is_replayed(
    agent, context, build_trajectory, fraction, columns
):
    head = ValueReplayConfig(fraction=fraction).build(context)
    result = evaluate(head, agent, build_trajectory(batch=4))
    assert result.loss.shape == (T, columns)


def test_a_minibatch_has_its_part_of_the_replayed_columns(agent, context, build_trajectory):
    head = ValueReplayConfig(fraction=0.5).build(context)
    targets = head.prepare(agent, build_trajectory(batch=8))
    # Four columns for eight environments: two for four, half a one rounded up for one.
    environments = torch.tensor([6, 1, 3, 0])
    half = targets.select(environments).trajectory
    assert torch.equal(half.reward, targets.trajectory.reward[:, [2, 1]])  # modulo 4
    assert targets.select(torch.tensor([5])).trajectory.reward.shape == (T, 1)
    # The part of a part is one of the part's.
    quarter = targets.select(environments).select(torch.tensor([3, 1])).trajectory
    assert torch.equal(quarter.reward, half.reward[:, [1]])


def test_explained_variance_is_over_valid_replayed_steps(agent, context, build_trajectory):
    trajectory = build_trajectory(length=6, batch=1, terminated=[(2, 0)])
    head = ValueReplayConfig().build(context)
    result = evaluate(head, agent, trajectory)
    value, target = agent.unroll(trajectory).value.detach()[:, 0], torch.zeros(6)
    after = value[6]
    for t in reversed(range(6)):
        if trajectory.terminated[t, 0]:
            after = torch.tensor(0.0)
        after = target[t] = trajectory.reward[t, 0] + 0.9 * after
    valid = trajectory.valid[:, 0]
    error = (target - value[:6])[valid]
    assert valid.sum() == 5
    expected = 1 - error.var(correction=0) / target[valid].var(correction=0)
    assert_close(result.metrics["explained_variance"], expected)


def test_a_critic_that_only_replays_learns_how_far_off_the_reward_is(
    build_catch, build_agent, context
):
    # On a board of one column every ball is caught: the return is 0.9^n, n steps before.
    env = build_catch(num_envs=16, rows=6, columns=1)
    agent = build_agent(env.spec)
    played = collect(env, agent, 12)
    head = ValueReplayConfig().build(replace(context, spec=env.spec, torso=agent.torso))
    optimizer = torch.optim.Adam(agent.parameters(), lr=0.01)
    losses, explained = [], []
    for trajectory in played * 10:
        result = evaluate(head, agent, trajectory)
        loss = masked_mean(result.loss, result.valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        explained.append(float(result.metrics["explained_variance"]))
    assert sum(losses[-12:]) < 0.1 * sum(losses[:12])
    assert sum(explained[-12:]) / 12 > 0.8


def test_it_owns_no_parameters_and_tells_its_memory(agent, context, build_trajectory):
    # 4,096 steps are 683 trajectories of 3 x 2; of each, 2 (4 x 24 + 3 x 19) = 306 bytes.
    head = Heads().value_replay.build(context)
    assert list(head.parameters()) == []
    assert head.held_bytes == 683 * 306
    head.prepare(agent, build_trajectory())
    assert head.held_bytes == 683 * 306


def test_a_replay_larger_than_memory_names_its_option(context, monkeypatch):
    monkeypatch.setattr(replays, "free_bytes", lambda device: 10)
    with pytest.raises(ValueError, match=r"^replay_steps 4098 needs"):
        ValueReplayConfig().build(context)


@pytest.mark.parametrize(
    "options",
    [
        {"fraction": 0.0},
        {"fraction": 1.1},
        {"replay_steps": 0},
        {"trace": -0.1},
        {"trace": 1.1},
        {"coefficient": -1.0},
        {"coefficient": float("inf")},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        ValueReplayConfig(**options)
