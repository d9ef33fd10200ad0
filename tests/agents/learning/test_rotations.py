"""Rotations against slow NumPy from the paper's formulas, and what they are for."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import nn
from torch.testing import assert_close

from agents.gates import make
from agents.learning.rotations import Cut, Rotations, rotated_backward
from agents.networks.actor_critic import folded, rotate

L, SAMPLES, F = 3, 6, 5
RATE = 1e-4


def random_gradients(seed, features=F):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(L, SAMPLES, features, generator=generator)


def dense(matrix):
    """One task's rotation as a single matrix."""
    return torch.block_diag(*matrix)


def turned_at_random(rotations, seed=0):
    """Gives every block a rotation of its own."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rotations.matrix.shape, generator=generator)
    rotations.matrix.copy_(torch.matrix_exp(drawn - drawn.mT))
    return rotations


def slow_loss(matrix, over_rotated, common):
    """-sum_n <R^T h_n, v_n>."""
    return -sum((matrix.T @ h) @ v for h, v in zip(over_rotated, common, strict=True))


def test_a_step_descends_the_papers_loss_along_its_gradient():
    # Without momentum, before Adam has seen anything else, a step is the sign of the gradient.
    rotations = turned_at_random(Rotations(L, F))
    before = rotations.matrix.double().numpy()[:, 0]
    gradients = random_gradients(1)
    rotations.learn(gradients, RATE)
    after = rotations.matrix.double().numpy()[:, 0]
    over_z = gradients.double().numpy()
    unit = np.stack([g / np.linalg.norm(g) for g in over_z])
    common = unit.mean(0)
    for task in range(L):
        over_rotated = unit[task] @ before[task].T  # h = R u, row by row
        direction = np.zeros((F, F))
        for i in range(F):
            for j in range(i):
                # The derivative of the loss along R (I + t E), E turning axis j towards axis i.
                turn = np.zeros((F, F))
                turn[i, j], turn[j, i] = 1e-5, -1e-5
                up = slow_loss(before[task] @ (np.eye(F) + turn), over_rotated, common)
                down = slow_loss(before[task] @ (np.eye(F) - turn), over_rotated, common)
                direction[i, j] = -np.sign(up - down)
                direction[j, i] = -direction[i, j]
        assert_close(after[task], before[task] @ expm(RATE * direction), atol=1e-6, rtol=0)
        loss = [slow_loss(m[task], over_rotated, common) for m in (before, after)]
        assert loss[1] < loss[0]


def test_the_first_update_sees_the_features_as_they_are():
    features = torch.randn(3, 2, F)
    rotations = Rotations(L, F)
    for task in range(L):
        assert torch.equal(rotations.rotate(features, task), features)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 1000))
def test_turning_makes_the_gradients_agree(seed):
    # What each loss wants of the features it sees, h, is held fixed; u = R^T h, row by row h R.
    over_rotated = random_gradients(seed)
    rotations = Rotations(L, F)

    def agreement():
        rows = [h @ dense(m) for h, m in zip(over_rotated, rotations.matrix, strict=True)]
        unit = torch.stack([row / row.norm() for row in rows])
        return unit.mean(0).norm(), torch.stack(rows)

    first, rows = agreement()
    for _ in range(60):
        rotations.learn(rows, rate=3e-2)
        last, rows = agreement()
    # The mean of three directions is 1 long if they are one, and 0.58 if they are at right angles.
    assert last > first + 0.05


def test_hundreds_of_steps_leave_a_rotation_a_rotation():
    rotations = Rotations(L, F)
    for seed in range(500):
        rotations.learn(random_gradients(seed), rate=0.05)
    products = rotations.matrix.mT @ rotations.matrix
    assert_close(products, torch.eye(F).expand_as(products), atol=2e-6, rtol=0)
    assert_close(torch.linalg.det(rotations.matrix), torch.ones(L, 1))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), exponent=st.integers(-30, 25), task=st.integers(0, L - 1))
def test_the_size_of_a_loss_does_not_matter(seed, exponent, task):
    gradients = random_gradients(seed)
    one, other = Rotations(L, F), Rotations(L, F)
    one.learn(gradients, RATE)
    gradients[task] *= 10.0**exponent
    other.learn(gradients, RATE)
    assert_close(one.matrix, other.matrix, atol=1e-7, rtol=0)


def test_blocks_turn_apart_and_the_features_left_over_do_not():
    rotations = turned_at_random(Rotations(2, 7, block=3))
    assert rotations.matrix.shape == (2, 2, 3, 3)
    features = torch.randn(4, 7)
    turned = rotations.rotate(features, 1)
    assert torch.equal(turned[:, 6], features[:, 6])
    expected = features[:, :6] @ dense(rotations.matrix[1]).T
    assert_close(turned[:, :6], expected)


@pytest.mark.parametrize(("block", "shape"), [(0, (1, 7, 7)), (64, (1, 7, 7)), (2, (3, 2, 2))])
def test_a_block_is_never_wider_than_the_features(block, shape):
    assert Rotations(2, 7, block).matrix.shape == (2, *shape)


def test_each_block_learns_as_if_it_were_alone_but_for_the_common_length():
    gradients = random_gradients(3, features=7)
    blocks = Rotations(L, 7, block=3)
    blocks.learn(gradients, RATE)
    for index, columns in enumerate((slice(0, 3), slice(3, 6))):
        alone = gradients.clone()
        outside = torch.ones(7, dtype=torch.bool)
        outside[columns] = False
        # What lies outside of the block counts for the length of the gradient, nothing else.
        alone[:, :, outside] = alone[:, :, outside].abs()
        other = Rotations(L, 7, block=3)
        other.learn(alone, RATE)
        assert torch.equal(other.matrix[:, index], blocks.matrix[:, index])


@pytest.mark.parametrize("block", [0, 2])
def test_a_rotation_is_folded_into_the_weights_above_it(block):
    matrix = turned_at_random(Rotations(2, F, block)).matrix[1]
    layer = nn.Linear(F, 4)
    features = torch.randn(3, 2, F)
    expected = layer(rotate(features, matrix))
    assert_close(features @ folded(layer.weight, matrix).T + layer.bias, expected)


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_a_task_without_a_gradient_turns_nobody(nothing):
    gradients = random_gradients(0)[:2]
    alone, beside = Rotations(3, F), Rotations(3, F)
    spoilt = torch.cat([gradients, torch.full((1, SAMPLES, F), nothing)])
    beside.learn(spoilt, RATE)
    alone.learn(torch.cat([gradients, torch.zeros(1, SAMPLES, F)]), RATE)
    assert torch.equal(beside.matrix, alone.matrix)
    assert torch.equal(beside.matrix[2, 0], torch.eye(F))
    assert not torch.equal(beside.matrix[0, 0], torch.eye(F))


def test_an_unhealthy_update_turns_nothing():
    rotations = Rotations(L, F)
    rotations.learn(random_gradients(0), RATE, healthy=torch.tensor(False))
    assert torch.equal(rotations.matrix, Rotations(L, F).matrix)


def test_how_far_apart_rotations_are():
    rotations = Rotations(3, 4)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    rotations.matrix[1, 0] = torch.block_diag(quarter, quarter)
    # |R - I|^2 has four entries of 1 off the diagonal and four on it: 8 of 2 * 4.
    rotations.matrix[2, 0] = torch.block_diag(quarter, torch.eye(2))
    assert_close(rotations.apart(), torch.tensor([1.0, 0.5]))


def test_it_goes_on_from_a_checkpoint_bit_for_bit():
    rotations, resumed = Rotations(L, F), Rotations(L, F)
    for seed in range(3):
        rotations.learn(random_gradients(seed), RATE)
    # As it comes from a file: in memory of its own.
    resumed.load_state_dict(copy.deepcopy(rotations.state_dict()))
    for either in (rotations, resumed):
        either.learn(random_gradients(9), RATE)
    assert torch.equal(rotations.matrix, resumed.matrix)


def test_a_single_feature_is_refused():
    with pytest.raises(ValueError, match="rotations need at least 2 features"):
        Rotations(2, 1)


def train(rate, seed, updates=100):
    """Two regressions of related targets on one small trunk; the mean cosine of the last half."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    heads = [nn.Linear(4, 1), nn.Linear(4, 1)]
    private = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.SGD([*trunk.parameters(), *private], lr=0.03)
    gate, rotations = make("rotograd"), Rotations(num_tasks=2, num_features=4)
    cosines = []
    for _ in range(updates):
        x = torch.randn(32, 6)
        targets = [x[:, :1].mul(2).sin(), 0.5 * x[:, 1:2] - x[:, :1].mul(2).sin()]
        optimizer.zero_grad()
        cut = Cut((trunk(x),))
        losses = [
            (head(rotations.rotate(cut.pieces[0], task)) - target).square().mean()
            for task, (head, target) in enumerate(zip(heads, targets, strict=True))
        ]
        judgement = rotated_backward(losses, gate, rotations, cut, private, rate=rate)
        optimizer.step()
        cosines.append(judgement.gramian.cosine[0, 0, 1])
    return torch.stack(cosines[updates // 2 :]).mean()


@pytest.mark.parametrize("seed", range(2))
def test_gradients_over_the_features_agree_more_where_rotations_are_learnt(seed):
    still, turning = train(1e-12, seed), train(3e-3, seed)
    assert turning > still + 0.1


def test_it_is_the_backward_of_the_weighted_losses():
    torch.manual_seed(0)
    trunk, heads = nn.Linear(6, F), [nn.Linear(F, 1), nn.Linear(F, 2)]
    x, rotations = torch.randn(4, 6), turned_at_random(Rotations(2, F))
    matrix = rotations.matrix.clone()

    def losses(features):
        return [
            head(rotate(features, m)).square().sum() for head, m in zip(heads, matrix, strict=True)
        ]

    private = [parameter for head in heads for parameter in head.parameters()]
    cut = Cut((trunk(x),))
    judgement = rotated_backward(
        losses(cut.pieces[0]), make("rotograd"), rotations, cut, private, rate=RATE
    )
    # The paper's C, at the first judgement the mean length of the gradients over the features.
    features = trunk(x)
    rows = [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses(features)]
    lengths = torch.stack([row.norm() for row in rows])
    assert_close(judgement.weights[0], lengths.mean() / lengths)
    # The trunk gets the gradient of the weighted losses, each head that of its own.
    mine = [p.grad.clone() for p in (*trunk.parameters(), *private)]
    for parameter in (*trunk.parameters(), *private):
        parameter.grad = None
    plain = losses(trunk(x))
    sum(plain).backward(inputs=private, retain_graph=True)
    sum(w * loss for w, loss in zip(judgement.weights[0], plain, strict=True)).backward(
        inputs=list(trunk.parameters())
    )
    for found, parameter in zip(mine, (*trunk.parameters(), *private), strict=True):
        assert_close(found, parameter.grad)
    assert not torch.equal(rotations.matrix, matrix)
