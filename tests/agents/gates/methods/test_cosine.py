"""The weighted cosine gate against Du et al., Propositions 1 and 2."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.gates.methods.cosine import Cosine
from agents.gates.methods.sum import Sum


def ground_truth(rows: Tensor) -> Tensor:
    """Is slow and close to the paper: G + V * max(0, cos(G, V)), once per auxiliary."""
    main = rows[0]
    direction = main.clone()
    for auxiliary in rows[1:]:
        cosine = float(main @ auxiliary) / (float(main.norm()) * float(auxiliary.norm()))
        direction += max(0.0, cosine) * auxiliary
    return direction


def test_hand_computed_weights() -> None:
    # cos((1, 0), (3, 4)) = 3/5; cos((1, 0), (-1, 1)) < 0; cos((1, 0), (0, 2)) = 0.
    judgement = Cosine().judge(torch.tensor([[1.0, 0.0], [3.0, 4.0], [-1.0, 1.0], [0.0, 2.0]]))
    torch.testing.assert_close(judgement.weights, torch.tensor([[1.0, 0.6, 0.0, 0.0]]))
    torch.testing.assert_close(judgement.direction, torch.tensor([1.0 + 1.8, 2.4]))


@pytest.mark.parametrize(("start", "weight"), [(-20.0, 1.0), (5.0, 0.0)])
def test_the_papers_one_dimensional_illustration(start: float, weight: float) -> None:
    # L_main = (x - 10)^2, L_aux = x^2: gradients -60, -40 at -20, and -10, +10 at 5.
    rows = torch.tensor([[2 * (start - 10)], [2 * start]])
    assert Cosine().judge(rows).weights.tolist() == [[1.0, weight]]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 4))
def test_it_follows_the_papers_formula(seed: int, num_losses: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_losses, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(Cosine().combine(rows), ground_truth(rows))


def test_each_group_is_gated_by_its_own_cosine() -> None:
    rows = torch.randn(3, 7, dtype=torch.float64)
    expected = torch.cat([ground_truth(rows[:, :4]), ground_truth(rows[:, 4:])])
    torch.testing.assert_close(Cosine().combine(rows, groups=(4, 3)), expected)


@pytest.mark.parametrize("main", [0.0, float("nan"), float("inf")])
def test_auxiliaries_are_dropped_where_the_main_gradient_vanishes_or_is_not_finite(
    main: float,
) -> None:
    rows = torch.stack([torch.full((5,), main), torch.ones(5)])
    assert Cosine().combine(rows).tolist() == [0.0] * 5


def test_parallel_auxiliaries_make_it_the_sum() -> None:
    row = torch.randn(7)
    rows = torch.stack([row, 2.0 * row, 0.3 * row])
    torch.testing.assert_close(Cosine().combine(rows), Sum().combine(rows))
