"""PCGrad against its Algorithm 1 and against TorchJD."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchjd.aggregation import PCGrad as TorchJDPCGrad

from agents.gates.methods.gradvac import PCGrad


def random_rows(seed: int, num_losses: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_losses, 6, generator=generator, dtype=torch.float64)


def ground_truth(rows: Tensor, order: list[list[int]]) -> Tensor:
    """Is slow and close to the paper: Algorithm 1, over the gradients themselves."""
    projected = rows.clone()
    for i, others in enumerate(order):
        for j in others:
            product = float(projected[i] @ rows[j])
            if product < 0:
                projected[i] -= product / float(rows[j] @ rows[j]) * rows[j]
    return projected.sum(0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(2, 5))
def test_it_follows_algorithm_1_in_any_order(seed: int, num_losses: int) -> None:
    rows, gate = random_rows(seed, num_losses), PCGrad(seed=seed)
    rows[-1] *= 1e3
    for _ in range(2):
        expected = ground_truth(rows, gate.orders(num_losses, rows.device).tolist())
        assert_close(gate.combine(rows), expected, atol=1e-10, rtol=1e-10)


def test_the_worked_case() -> None:
    # <g, h> = -11.5: weights 1 + 11.5 / 19.25 and 1 + 11.5 / 16.5625.
    rows = torch.linalg.cholesky(torch.tensor([[19.25, -11.5], [-11.5, 16.5625]]).double())
    expected = torch.tensor([[1 + 11.5 / 19.25, 1 + 11.5 / 16.5625]]).double()
    assert_close(PCGrad().judge(rows).weights, expected)


@pytest.mark.parametrize("num_losses", [2, 3])
def test_torchjd_agrees_in_the_same_order(num_losses: int) -> None:
    ascending = [[j for j in range(num_losses) if j != i] for i in range(num_losses)]
    for seed in range(200):  # until its draws ascend: half of them do, of each row
        torch.manual_seed(seed)
        draws = [torch.randperm(num_losses).tolist() for _ in range(num_losses)]
        if [[j for j in draw if j != i] for i, draw in enumerate(draws)] == ascending:
            break
    else:
        raise AssertionError("no seed gives ascending orders")
    for rows in (random_rows(1, num_losses), random_rows(2, num_losses)):
        torch.manual_seed(seed)
        assert_close(PCGrad("fixed").combine(rows), TorchJDPCGrad()(rows))


def test_without_conflict_it_is_the_sum() -> None:
    rows = torch.rand(3, 7)
    assert_close(PCGrad().combine(rows), rows.sum(0))


def test_exactly_opposed_gradients_cancel() -> None:
    rows = torch.tensor([[1.0, 2.0], [-3.0, -6.0]])
    assert_close(PCGrad().combine(rows), torch.zeros(2))


def test_scaling_a_row_scales_its_projection() -> None:
    # Two projections are linear each in its own gradient: d(s g, h) + d(g, h) is what both scale.
    rows = random_rows(0, 2)
    rows[1] -= 2 * rows[0]
    on_main, on_auxiliary = (
        PCGrad().combine(torch.stack([rows[0], scale * rows[1]])) for scale in (1.0, 1e6)
    )
    main, auxiliary = rows
    projected = auxiliary - main * (auxiliary @ main) / (main @ main)
    assert_close(on_auxiliary - on_main, (1e6 - 1.0) * projected)


def test_orders_change_from_judgement_to_judgement() -> None:
    # Three gradients at 100 to 130 degrees: each order leaves another vector.
    angles = torch.tensor([0.0, 1.75, 3.9]).double()
    rows = torch.stack([angles.cos(), angles.sin()], dim=-1)
    gate = PCGrad()
    assert len({str(gate.combine(rows).tolist()) for _ in range(20)}) > 1
    fixed = PCGrad("fixed")
    assert torch.equal(fixed.combine(rows), fixed.combine(rows))
