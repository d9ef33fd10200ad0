"""GradVac against its Algorithm 1 and against TorchJD, over several judgements."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchjd.aggregation import GradVac as TorchJDGradVac

from agents.gates.methods.gradvac import CLOSEST, GradVac, GradVacConfig, PCGrad


def sequence(num_losses: int, length: int = 8) -> Tensor:
    """Gradients that share a part, so that targets rise above 0."""
    generator = torch.Generator().manual_seed(0)
    shape = (length, num_losses, 6)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64)
    common = torch.randn(6, generator=generator, dtype=torch.float64)
    return rows + 0.7 * common * torch.arange(1.0, num_losses + 1).double()[:, None]


class Slow:
    """Close to the paper, over the gradients themselves."""

    def __init__(self, num_losses: int, beta: float) -> None:
        self.target = [[0.0] * num_losses for _ in range(num_losses)]
        self.beta = beta

    def __call__(self, rows: Tensor, order: list[list[int]]) -> Tensor:
        total = torch.zeros_like(rows[0])
        for i, others in enumerate(order):
            turned = rows[i].clone()
            for j in others:
                length, other = float(turned.norm()), float(rows[j].norm())
                cosine = float(turned @ rows[j]) / length / other
                target = self.target[i][j]
                if cosine < target:
                    rise = target * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - target**2)
                    turned += length * rise / (other * math.sqrt(1 - target**2)) * rows[j]
                self.target[i][j] = (1 - self.beta) * target + self.beta * cosine
            total += turned
        return total


@pytest.mark.parametrize("num_losses", [2, 3, 5])
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_it_follows_algorithm_1(num_losses: int, decay: float) -> None:
    gate, slow = GradVac(decay), Slow(num_losses, 1 - decay)
    for rows in sequence(num_losses):
        expected = slow(rows, gate.orders(num_losses, rows.device).tolist())
        assert_close(gate.combine(rows), expected, atol=1e-10, rtol=1e-10)
    assert_close(gate.target[0], torch.tensor(slow.target, dtype=torch.float64), atol=1e-10, rtol=0)
    assert gate.target.max() > 0.1  # else it would have been PCGrad all along


def test_the_first_judgement_is_pcgrads() -> None:
    rows = sequence(3)[0]
    assert_close(GradVac(order="fixed").combine(rows), PCGrad("fixed").combine(rows))


@pytest.mark.parametrize("num_losses", [2, 3])
def test_torchjd_agrees_in_the_same_order(num_losses: int) -> None:
    for seed in range(200):  # until its draws ascend
        torch.manual_seed(seed)
        draws = [torch.randperm(num_losses - 1).tolist() for _ in range(num_losses)]
        if all(draw == sorted(draw) for draw in draws):
            break
    else:
        raise AssertionError("no seed gives ascending orders")
    gate, other = GradVac(0.5, order="fixed"), TorchJDGradVac(beta=0.5, eps=0.0)
    for rows in sequence(num_losses):
        torch.manual_seed(seed)
        assert_close(gate.combine(rows), other(rows))


def test_a_vanished_gradient_leaves_its_targets_as_they_were() -> None:
    gate = GradVac(0.5)
    first, second = sequence(3)[:2]
    gate.judge(first)
    before = gate.target.clone()
    second[1] = 0.0
    gate.judge(second)
    moved = gate.target != before
    # Only rows 0 and 2 met.
    assert moved[0].nonzero().tolist() == [[0, 2], [2, 0]]


def test_gradients_that_always_agreed_and_then_oppose_stay_finite() -> None:
    gate, row = GradVac(0.5), torch.ones(5)
    for _ in range(60):
        gate.judge(torch.stack([row, row]))
    assert gate.target[0, 0, 1] > CLOSEST
    for other in (-row, torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0]), row - 1e-4 * torch.eye(5)[0]):
        judgement = gate.judge(torch.stack([row, other]))
        assert judgement.weights.isfinite().all()
        # tan of the widest turn, both ways: 1 / sqrt(2e-6) = 707.
        assert judgement.weights.abs().max() < 2000


def test_a_decay_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), not 1.5"):
        GradVacConfig(decay=1.5)
