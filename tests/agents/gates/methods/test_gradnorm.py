"""GradNorm against automatic differentiation of its own loss, over several judgements."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agents.gates.methods.gradnorm import GradNorm, GradNormConfig


def sequence(num_losses: int, length: int = 12) -> tuple[Tensor, Tensor]:
    """Gradients of lengths 1 : 3 : 9 ..., and losses above 0 that fall at different rates."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(length, num_losses, 6, generator=generator, dtype=torch.float64)
    rows = rows * 3.0 ** torch.arange(num_losses)[:, None]
    rates = torch.linspace(0.5, 1.0, num_losses, dtype=torch.float64)
    times = torch.arange(length, dtype=torch.float64)[:, None]
    return rows, 5.0 * rates**times


def ground_truth(rows: Tensor, losses: Tensor, alpha: float, rate: float) -> list[Tensor]:
    """Is slow and close to the paper: the weights that each step uses, by autograd."""
    num_losses = rows.shape[1]
    v = torch.zeros(num_losses, dtype=torch.float64, requires_grad=True)
    used = []
    for step in range(len(rows)):
        w = num_losses * v.softmax(-1)
        used.append(w.detach())
        length = w * rows[step].norm(dim=-1)
        mean = length.mean().detach()
        progress = losses[step] / losses[0]
        target = mean * (progress / progress.mean()) ** alpha
        loss = (length - target).abs().sum() / mean
        (slope,) = torch.autograd.grad(loss, v)
        v = (v - rate * slope).detach().requires_grad_()
    return used


@pytest.mark.parametrize("num_losses", [2, 3])
@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_it_descends_its_loss(num_losses: int, alpha: float) -> None:
    rows, losses = sequence(num_losses)
    gate = GradNorm(alpha, learning_rate=0.1, main_ratio=True)
    for step, expected in enumerate(ground_truth(rows, losses, alpha, 0.1)):
        judgement = gate.judge(rows[step], losses[step])
        assert_close(judgement.weights[0], expected, atol=1e-10, rtol=1e-10)
    assert expected.max() > 1.2 * expected.min()  # else nothing was learnt


def test_without_alpha_weighted_gradients_become_equally_long() -> None:
    gate, rows = GradNorm(alpha=0.0, learning_rate=0.03), torch.tensor([[1.0, 0.0], [0.0, 9.0]])
    for _ in range(120):
        weights = gate.judge(rows).weights[0]
    # w_0 = 9 w_1, w_0 + w_1 = 2.
    assert_close(weights, torch.tensor([1.8, 0.2]), atol=3e-2, rtol=0)


def test_a_loss_that_lags_behind_gets_more() -> None:
    gate, rows = GradNorm(alpha=1.5, learning_rate=0.01, main_ratio=True), torch.eye(2)
    for step in range(30):
        weights = gate.judge(rows, torch.tensor([1.0, 0.9**step])).weights[0]
    assert weights[0] > 1.05
    assert weights[1] < 0.95


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_ratio_that_makes_no_sense_counts_as_no_progress(bad: float) -> None:
    rows = sequence(3)[0]
    gate, neutral = GradNorm(main_ratio=True), GradNorm(main_ratio=True)
    for step in range(3):
        # Loss 1 is never sound in one; in the other it stays at its first value.
        loss = 0.5**step
        one = gate.judge(rows[step], torch.tensor([1.0, bad, loss]))
        other = neutral.judge(rows[step], torch.tensor([1.0, 1.0, loss]))
        assert_close(one.weights, other.weights)


def test_the_main_loss_may_be_negative_unless_its_ratio_is_asked_for() -> None:
    rows, gate, other = torch.eye(2), GradNorm(), GradNorm()
    for main in (2.0, -3.0, 50.0):
        gate.judge(rows, torch.tensor([main, 0.5]))
        other.judge(rows, torch.tensor([1.0, 0.5]))
    assert torch.equal(gate.logit, other.logit)


def test_the_first_positive_loss_is_the_one_compared_with() -> None:
    gate = GradNorm()
    for loss in (0.0, float("nan"), 4.0, 2.0):
        gate.judge(torch.eye(2), torch.tensor([1.0, loss]))
    assert gate.initial.tolist() == [1.0, 4.0]


def test_a_vanished_gradient_moves_no_weight() -> None:
    gate = GradNorm(alpha=0.0)
    gate.judge(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert gate.logit.tolist() == [[0.0, 0.0]]


def test_losses_are_asked_for_only_with_alpha() -> None:
    GradNorm(alpha=0.0).judge(torch.eye(2))
    with pytest.raises(ValueError, match="GradNorm needs the values of the losses"):
        GradNorm().judge(torch.eye(2))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha must be at least 0 and finite, not -1\.5"):
        GradNormConfig(alpha=-1.5)
    with pytest.raises(ValueError, match=r"learning_rate must be above 0 and finite, not 0\.0"):
        GradNormConfig(learning_rate=0.0)
