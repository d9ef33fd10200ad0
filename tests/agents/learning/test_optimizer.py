import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.learning.optimizer import OwnerOptimizer

HEALTHY = torch.tensor(True)
EPSILON = 1e-5


@pytest.fixture
def layer():
    return nn.Linear(5, 4)


def set_gradients(module, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def everything(optimizer):
    """Copies weights, moments and step counts."""
    state = copy.deepcopy(optimizer.state_dict()["state"])
    numbers = [number for each in state.values() for number in each.values()]
    return [p.detach().clone() for p in optimizer.parameters] + numbers


def same(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("beta_1", [0.9, 0.5, 0.0])
def test_finite_gradients_step_as_torch_adam_does(layer, beta_1):
    twin = copy.deepcopy(layer)
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON, beta_1)
    adam = torch.optim.Adam(twin.parameters(), lr=0.1, betas=(beta_1, 0.999), eps=EPSILON)
    for seed, learning_rate in enumerate([0.1, 0.05, 0.02]):
        set_gradients(layer, seed)
        set_gradients(twin, seed)
        _, taken = optimizer.step(learning_rate, 0.0, HEALTHY)
        assert taken
        adam.param_groups[0]["lr"] = learning_rate
        adam.step()
    for mine, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_a_gradient_that_is_not_finite_changes_nothing(layer, strange, max_norm):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    set_gradients(layer)
    optimizer.step(0.1, max_norm, HEALTHY)
    before = everything(optimizer)
    set_gradients(layer, seed=1)
    layer.bias.grad[2] = strange
    norm, taken = optimizer.step(0.1, max_norm, HEALTHY)
    assert not taken
    assert not norm.isfinite()
    assert same(before, everything(optimizer))


def test_an_unhealthy_loss_changes_nothing_though_its_gradient_is_finite(layer):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    set_gradients(layer)
    optimizer.step(0.1, 0.5, HEALTHY)
    before = everything(optimizer)
    _, taken = optimizer.step(0.1, 0.5, torch.tensor(False))
    assert not taken
    assert same(before, everything(optimizer))


def test_a_skipped_step_leaves_the_later_ones_as_if_it_had_not_been(layer):
    twin = copy.deepcopy(layer)
    skipping = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    plain = OwnerOptimizer(twin.parameters(), 0.1, EPSILON)
    for seed in range(4):
        set_gradients(layer, seed)
        set_gradients(twin, seed)
        if seed == 2:
            skipping.step(0.1, 0.5, torch.tensor(False))
        else:
            skipping.step(0.1, 0.5, HEALTHY)
            plain.step(0.1, 0.5, HEALTHY)
    assert same(everything(skipping), everything(plain))


def test_longer_gradients_are_shortened_and_shorter_ones_are_not_touched():
    # (3, 4) has the length 5.
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = OwnerOptimizer([parameter], 0.1, EPSILON)
    for max_norm, expected in ((0.5, [0.3, 0.4]), (5.5, [3.0, 4.0]), (0.0, [3.0, 4.0])):
        parameter.grad = torch.tensor([3.0, 4.0])
        norm, _ = optimizer.step(0.1, max_norm, HEALTHY)
        assert norm == 5.0
        assert_close(parameter.grad, torch.tensor(expected))


def test_the_length_is_that_of_all_parameters_together():
    # Lengths 3 and 4: together 5, hence a tenth of each.
    first, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))
    optimizer = OwnerOptimizer([first, second], 0.1, EPSILON)
    first.grad, second.grad = torch.tensor([0.0, 3.0, 0.0]), torch.tensor([-4.0])
    norm, _ = optimizer.step(0.1, 0.5, HEALTHY)
    assert norm == 5.0
    assert_close(first.grad, torch.tensor([0.0, 0.3, 0.0]))
    assert_close(second.grad, torch.tensor([-0.4]))


def test_a_gradient_of_zeros_takes_its_step(layer):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    set_gradients(layer, scale=0.0)
    before = layer.weight.detach().clone()
    norm, taken = optimizer.step(0.1, 0.5, HEALTHY)
    assert taken
    assert norm == 0.0
    assert torch.equal(layer.weight, before)


def test_parameters_without_any_gradient_take_no_step(layer):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    set_gradients(layer)
    optimizer.zero_grad()
    norm, taken = optimizer.step(0.1, 0.5, HEALTHY)
    assert not taken
    assert norm == 0.0


def test_the_denominator_is_what_adam_divides_by(layer):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    assert optimizer.denominator([layer.weight]) is None
    # v = 0.001 sum_i 0.999^(2 - i) g_i^2, over 1 - 0.999^3.
    total = torch.zeros(4, 5)
    for seed in range(3):
        set_gradients(layer, seed)
        total = 0.999 * total + 0.001 * layer.weight.grad.square()
        optimizer.step(0.1, 0.0, HEALTHY)
    expected = (total / (1 - 0.999**3)).sqrt() + EPSILON
    assert_close(optimizer.denominator([layer.weight]), expected.flatten(), rtol=1e-4, atol=1e-7)
    both = optimizer.denominator([layer.bias, layer.weight])
    assert both.shape == (24,)
    assert_close(both[4:], expected.flatten(), rtol=1e-4, atol=1e-7)


def test_the_denominator_is_1_until_a_step_was_taken(layer):
    optimizer = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    set_gradients(layer)
    optimizer.step(0.1, 0.0, torch.tensor(False))
    assert optimizer.denominator([layer.bias]).tolist() == [1.0] * 4
    optimizer.step(0.1, 0.0, HEALTHY)
    # After one step sqrt(v) is |g|.
    assert_close(optimizer.denominator([layer.bias]), layer.bias.grad.abs() + EPSILON)


def test_there_is_no_denominator_of_nothing(layer):
    assert OwnerOptimizer(layer.parameters(), 0.1, EPSILON).denominator([]) is None


def test_a_saved_and_restored_optimizer_goes_on_bit_for_bit(layer):
    twin = copy.deepcopy(layer)
    first = OwnerOptimizer(layer.parameters(), 0.1, EPSILON)
    for seed in range(3):
        set_gradients(layer, seed)
        first.step(0.1, 0.5, HEALTHY)
    twin.load_state_dict(layer.state_dict())
    second = OwnerOptimizer(twin.parameters(), 0.1, EPSILON)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, module in ((first, layer), (second, twin)):
        set_gradients(module, seed=3)
        optimizer.step(0.1, 0.5, HEALTHY)
    assert same(everything(first), everything(second))
