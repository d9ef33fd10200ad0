"""The unweighted cosine gate against Du et al., Proposition 3."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.gates.methods.cosine import Cosine, CosineUnweighted


def ground_truth(rows: Tensor) -> Tensor:
    """Is slow and close to the paper: G + V (sign(cos(G, V)) + 1) / 2, with 0 for sign 0."""
    return rows[0] + sum(
        (row for row in rows[1:] if float(rows[0] @ row) > 0), torch.zeros_like(rows[0])
    )


def test_hand_computed_weights() -> None:
    # Inner products with (1, 0): 3, -1 and exactly 0, which is dropped.
    judgement = CosineUnweighted().judge(
        torch.tensor([[1.0, 0.0], [3.0, 4.0], [-1.0, 1.0], [0.0, 2.0]])
    )
    assert judgement.weights.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    assert judgement.direction.tolist() == [4.0, 4.0]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 4))
def test_it_follows_the_papers_formula(seed: int, num_losses: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_losses, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(CosineUnweighted().combine(rows), ground_truth(rows))


@pytest.mark.parametrize("main", [0.0, float("nan"), float("inf")])
def test_auxiliaries_are_dropped_where_the_main_gradient_vanishes_or_is_not_finite(
    main: float,
) -> None:
    rows = torch.stack([torch.full((5,), main), torch.ones(5)])
    assert CosineUnweighted().combine(rows).tolist() == [0.0] * 5


def test_it_is_open_exactly_where_the_weighted_gate_is() -> None:
    rows = torch.randn(50, 4, 7)
    unweighted, weighted = CosineUnweighted().judge(rows), Cosine().judge(rows)
    assert torch.equal(unweighted.weights > 0, weighted.weights > 0)
