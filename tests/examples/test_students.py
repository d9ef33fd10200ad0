import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents.gates import gated_backward, make
from examples.students import build_students, gated_gradients

SEEDS = (3, 8, 3)
SIZES, OUTPUTS, BATCH = (4, 5, 2), 6, 7


@pytest.fixture
def students():
    """S = 3 networks, of which the first and the last start alike."""
    return build_students(SIZES, OUTPUTS, SEEDS)


def losses_of(outputs, targets):
    """Of each network and sample: `[S, B]`."""
    return (outputs - targets).square().mean(-1)


def alone(students, index):
    """One network as modules: the trunk, the main head and the auxiliary's."""
    parts = [*zip(students.trunk[::2], students.trunk[1::2], strict=True), *students.heads]
    layers = []
    for weight, bias in parts:
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        with torch.no_grad():
            layer.weight.copy_(weight[index].T)
            layer.bias.copy_(bias[index, 0])
        layers.append(layer)
    first, second, main, auxiliary = layers
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), main, auxiliary


def test_a_seed_decides_the_initial_weights(students):
    for weight in students.trunk[::2]:
        assert torch.equal(weight[0], weight[2])
        assert not torch.equal(weight[0], weight[1])
    # Glorot and Bengio: uniform between sqrt(6 / (4 + 5)) and its negative.
    assert 0.5 < students.trunk[0].abs().max() <= (6 / 9) ** 0.5
    assert all(not bias.any() for bias in students.trunk[1::2])


@pytest.mark.parametrize(
    ("name", "options"),
    [("projection", {"decay": 0.5}), ("nash", {}), ("gradnorm", {}), ("attittud", {"rank": 2})],
)
def test_many_networks_are_each_one_network(students, name, options):
    torch.manual_seed(1)
    inputs = torch.randn(2, len(SEEDS), BATCH, SIZES[0])
    targets = torch.randn(2, 2, len(SEEDS), BATCH, OUTPUTS)
    mixtures = torch.randn(2, BATCH)
    together = make(name, **options)
    apart = [make(name, **options) for _ in SEEDS]
    # Twice: gates remember.
    for step, given in enumerate(inputs):
        per_sample = [
            losses_of(students.outputs(given, task), targets[step, task]) for task in range(2)
        ]
        wanted = together.sample_rows > 0 and step == 0
        samples = [(per_sample[0] * mixture).mean(1) for mixture in mixtures] if wanted else []
        gated_gradients(students, together, [each.mean(1) for each in per_sample], samples)
        for index, gate in enumerate(apart):
            trunk, *heads = alone(students, index)
            own = [
                losses_of(head(trunk(given[index])), targets[step, task, index])
                for task, head in enumerate(heads)
            ]
            gated_backward(
                [each.mean() for each in own],
                gate,
                [*trunk.parameters()],
                [parameter for head in heads for parameter in head.parameters()],
                samples=[(own[0] * mixture).mean() for mixture in mixtures] if wanted else None,
            )
            layers = [trunk[0], trunk[2], *heads]
            tensors = iter(students.parameters)
            for layer in layers:
                weight, bias = next(tensors), next(tensors)
                torch.testing.assert_close(weight.grad[index].T, layer.weight.grad)
                torch.testing.assert_close(bias.grad[index, 0], layer.bias.grad)


def test_a_main_loss_alone_trains_all_but_the_auxiliary_head(students):
    outputs = students.outputs(torch.ones(len(SEEDS), BATCH, SIZES[0]), 0)
    loss = F.mse_loss(outputs, torch.ones_like(outputs), reduction="none").mean((1, 2))
    gated_gradients(students, make("cosine"), [loss])
    given = torch.autograd.grad(
        F.mse_loss(
            students.outputs(torch.ones(len(SEEDS), BATCH, SIZES[0]), 0),
            torch.ones_like(outputs),
        )
        * len(SEEDS),
        students.trunk,
    )
    for parameter, gradient in zip(students.trunk, given, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert students.heads[0][0].grad is not None
    assert students.heads[1][0].grad is None
