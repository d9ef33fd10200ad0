from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from agents.networks.recurrent import GRU, Cores, FeedForwardConfig, GRUConfig

N, B, F, WIDTH, A = 4, 2, 5, 3, 4
NAN = float("nan")


def make_core(seed=0, num_actions=0):
    """A core with biases that are not zero, as after some training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        core = GRU(F, WIDTH, num_actions)
        for name, parameter in core.named_parameters():
            if "bias" in name:
                nn.init.normal_(parameter)
    return core


@pytest.fixture
def core():
    return make_core()


@pytest.fixture
def torch_gru(core):
    """PyTorch's own with the same weights, which cannot forget on the way."""
    theirs = nn.GRU(F, WIDTH)
    theirs.load_state_dict({f"{name}_l0": value for name, value in core.cell.state_dict().items()})
    return theirs


@pytest.fixture
def features():
    return torch.randn(N, B, F)


@pytest.fixture
def state():
    return torch.randn(B, WIDTH)


def nowhere(length=N):
    return torch.zeros(length, B, dtype=torch.bool)


def test_without_a_reset_it_is_the_gru_of_pytorch(core, torch_gru, features, state):
    output, after = core(features, state, nowhere())
    expected, last = torch_gru(features, state[None])
    assert_close(output, expected, rtol=0, atol=1e-6)
    assert_close(after, last[0], rtol=0, atol=1e-6)


def slow_gru(core, features, state, reset):
    """One environment by the formulas: h' = (1 - z) n + z h.

    r = sigmoid(W_r x + U_r h), z = sigmoid(W_z x + U_z h), n = tanh(W_n x + r (U_n h)),
    each product with a bias of its own.
    """
    into_r, into_z, into_n = core.cell.weight_ih.chunk(3)
    bias_r, bias_z, bias_n = core.cell.bias_ih.chunk(3)
    back_r, back_z, back_n = core.cell.weight_hh.chunk(3)
    more_r, more_z, more_n = core.cell.bias_hh.chunk(3)
    outputs = []
    for x, forgets in zip(features, reset, strict=True):
        h = torch.zeros(WIDTH) if forgets else state
        r = torch.sigmoid(into_r @ x + bias_r + back_r @ h + more_r)
        z = torch.sigmoid(into_z @ x + bias_z + back_z @ h + more_z)
        n = torch.tanh(into_n @ x + bias_n + r * (back_n @ h + more_n))
        state = (1 - z) * n + z * h
        outputs.append(state)
    return torch.stack(outputs), state


@settings(deadline=None, max_examples=30)
@given(resets=st.lists(st.booleans(), min_size=N * B, max_size=N * B), seed=st.integers(0, 99))
def test_every_environment_forgets_where_it_is_told_to_and_nowhere_else(resets, seed):
    core, generator = make_core(), torch.Generator().manual_seed(seed)
    features = torch.randn(N, B, F, generator=generator)
    state = torch.randn(B, WIDTH, generator=generator)
    reset = torch.tensor(resets).view(N, B)
    output, after = core(features, state, reset)
    for b in range(B):
        expected, last = slow_gru(core, features[:, b], state[b], reset[:, b])
        assert_close(output[:, b], expected)
        assert_close(after[b], last)


def test_the_true_last_observation_is_read_with_the_old_state_and_the_next_episode_with_none(
    core, torch_gru, build_trajectory, state
):
    # Environment 0 ends at step 0: observation 1 is its true last one, step 1 is invalid, and
    # observation 2 opens an episode.  Environment 1 goes on.
    trajectory = build_trajectory(shape=(F,), terminated=[(0, 0)])
    output, _ = core(trajectory.observation, state, trajectory.reset)
    zeros = torch.zeros(1, 1, WIDTH)
    first, _ = torch_gru(trajectory.observation[:2, :1], state[None, :1])
    second, _ = torch_gru(trajectory.observation[2:, :1], zeros)
    other, _ = torch_gru(trajectory.observation[:, 1:], state[None, 1:])
    assert_close(output[:, :1], torch.cat([first, second]))
    assert_close(output[:, 1:], other)


def test_a_trajectory_that_opens_an_episode_does_not_read_what_came_before(
    core, build_trajectory, state
):
    episode_start = torch.tensor([True, False])
    trajectory = replace(build_trajectory(shape=(F,)), episode_start=episode_start)
    output, _ = core(trajectory.observation, state, trajectory.reset)
    other, _ = core(trajectory.observation, state + 1.0, trajectory.reset)
    assert torch.equal(output[:, 0], other[:, 0])
    assert not torch.isclose(output[:, 1], other[:, 1]).any()


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_two_trajectories_are_one_long_one_if_the_state_is_carried_over(core, state, cut):
    features, reset = torch.randn(N, B, F), nowhere()
    reset[2, 1] = True
    whole, last = core(features, state, reset)
    first, between = core(features[:cut], state, reset[:cut])
    second, after = core(features[cut:], between, reset[cut:])
    assert_close(torch.cat([first, second]), whole)
    assert_close(after, last)


@pytest.fixture
def acting_core():
    """One that reads the last action."""
    return make_core(num_actions=A)


@pytest.fixture
def acting_state():
    """Action 3 had been taken in environment 0, action 1 in environment 1."""
    return torch.cat([torch.randn(B, WIDTH), torch.eye(A)[[3, 1]]], -1)


def test_the_action_taken_last_is_read_beside_the_features_but_not_across_an_episode(
    acting_core, acting_state, features
):
    action, reset = torch.tensor([[2, 0], [1, 3], [0, 0]]), nowhere()
    reset[2, 1] = True
    output, after = acting_core(features, acting_state, reset, action)
    # Before each observation, by environment; none where environment 1 begins an episode.
    done = torch.zeros(N, B, A)
    for n, b, known in [
        (0, 0, 3),
        (1, 0, 2),
        (2, 0, 1),
        (3, 0, 0),
        (0, 1, 1),
        (1, 1, 0),
        (3, 1, 0),
    ]:
        done[n, b, known] = 1.0
    for b in range(B):
        read = torch.cat([features[:, b], done[:, b]], -1)
        expected, last = slow_gru(acting_core, read, acting_state[b, :WIDTH], reset[:, b])
        assert_close(output[:, b], expected)
        assert_close(after[b, :WIDTH], last)
    # What will be done at the last observation nobody knows yet.
    assert not after[:, WIDTH:].any()


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_trajectory_hands_on_its_last_action_with_its_state(acting_core, acting_state, cut):
    features, reset, action = torch.randn(N, B, F), nowhere(), torch.randint(A, (N - 1, B))
    reset[2, 1] = True
    whole, _ = acting_core(features, acting_state, reset, action)
    first, between = acting_core(features[:cut], acting_state, reset[:cut], action[:cut])
    second, _ = acting_core(features[cut:], between, reset[cut:], action[cut:])
    assert_close(torch.cat([first, second]), whole)
    # The same by who acts, and knows the action only after the observation.
    _, unaware = acting_core(features[:cut], acting_state, reset[:cut], action[: cut - 1])
    assert_close(acting_core.acted(unaware, action[cut - 1]), between)


def test_gradients_reach_every_parameter_and_every_feature(core, features, state):
    features.requires_grad_()
    output, _ = core(features, state, nowhere())
    output[-1].sum().backward()
    assert all(parameter.grad.any(-1).all() for parameter in core.parameters())
    # Through time, from the last output to the first features.
    assert features.grad.any(-1).all()


def test_no_gradient_passes_a_reset(core, features, state):
    features.requires_grad_()
    reset = nowhere()
    reset[2, 0] = True
    output, _ = core(features, state, reset)
    output[-1].sum().backward()
    assert features.grad.any(-1).tolist() == [
        [False, True],
        [False, True],
        [True, True],
        [True, True],
    ]


def test_a_state_that_is_not_finite_ends_with_its_episode(core, features):
    state = torch.zeros(B, WIDTH)
    state[0] = NAN
    reset = nowhere()
    reset[1] = True
    output, after = core(features, state, reset)
    assert output[0, 0].isnan().all()
    assert output[1:].isfinite().all()
    assert after.isfinite().all()


def test_a_state_that_is_not_finite_before_an_episode_spoils_no_gradient(core, features):
    reset = nowhere()
    reset[0] = True
    output, _ = core(features, torch.full((B, WIDTH), NAN), reset)
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in core.parameters())


def test_the_state_that_came_in_is_left_alone(core, features, state):
    before, reset = state.clone(), nowhere()
    reset[0] = True
    core(features, state, reset)
    assert torch.equal(state, before)


def test_weights_begin_orthogonal_and_biases_at_zero():
    core = GRU(F, WIDTH)
    # 9 rows of 5 and of 3 numbers: their columns are orthonormal.
    assert_close(core.cell.weight_ih.T @ core.cell.weight_ih, torch.eye(F), atol=1e-5, rtol=0)
    assert_close(core.cell.weight_hh.T @ core.cell.weight_hh, torch.eye(WIDTH), atol=1e-5, rtol=0)
    assert not core.cell.bias_ih.any()
    assert not core.cell.bias_hh.any()


def test_the_config_makes_a_core_of_its_width_on_any_torso():
    core = GRUConfig(width=WIDTH).build(F)
    assert (core.num_features, core.state_size) == (WIDTH, WIDTH)
    assert core.cell.input_size == F


@pytest.mark.parametrize(
    ("last_action", "num_actions", "read"), [(True, A, A), (False, A, 0), (True, 0, 0)]
)
def test_the_config_says_whether_the_last_action_is_read(last_action, num_actions, read):
    core = GRUConfig(WIDTH, last_action).build(F, num_actions)
    assert core.cell.input_size == F + read
    assert (core.num_features, core.state_size) == (WIDTH, WIDTH + read)


def test_without_memory_there_is_no_core():
    assert FeedForwardConfig().build(F, A) is None
    assert Cores().none == FeedForwardConfig()


@pytest.mark.parametrize("width", [0, -1])
def test_a_core_without_units_is_refused_by_its_name(width):
    with pytest.raises(ValueError, match=r"^width must be at least 1"):
        GRUConfig(width)
