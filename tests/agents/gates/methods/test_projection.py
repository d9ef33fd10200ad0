"""The projection gate against Tran-Thien, Algorithm 1; `test_removal.py` has Algorithm 2."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import PCGrad

from agents.gates.methods.projection import Projection
from agents.gates.methods.sum import Sum


def ground_truth(rows: Tensor) -> Tensor:
    """Is slow and close to the paper: u - min(u.v, 0) v / |v|^2 for u = auxiliary, v = main."""
    main = rows[0]
    direction = main.clone()
    for auxiliary in rows[1:]:
        product = float(auxiliary @ main)
        direction += auxiliary - min(product, 0.0) / float(main @ main) * main
    return direction


def test_the_conflicting_part_is_removed() -> None:
    # (-3, 4) loses its part along (2, 0) and leaves (0, 4); weight of g: 1 + 6 / 4.
    judgement = Projection().judge(torch.tensor([[2.0, 0.0], [-3.0, 4.0]]))
    torch.testing.assert_close(judgement.weights, torch.tensor([[2.5, 1.0]]))
    torch.testing.assert_close(judgement.direction, torch.tensor([2.0, 4.0]))


def test_an_agreeing_or_orthogonal_auxiliary_passes_unchanged() -> None:
    rows = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert Projection().judge(rows).weights.tolist() == [[1.0, 1.0, 1.0]]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 4))
def test_it_follows_the_papers_formula(seed: int, num_losses: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_losses, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(Projection().combine(rows), ground_truth(rows))


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("main", [0.0, float("nan")])
def test_auxiliaries_pass_where_the_main_gradient_vanishes_or_is_not_finite(
    main: float, decay: float
) -> None:
    rows = torch.stack([torch.full((5,), main), torch.arange(5.0)])
    assert Projection(decay).combine(rows).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_pcgrad_is_the_projection_of_both_rows_on_each_other() -> None:
    # PCGrad = (projection of h off g) + (projection of g off h); ours gives g + the former.
    rows = torch.tensor([[2.0, 1.0, 0.0], [-3.0, 4.0, 1.0]], dtype=torch.float64)
    off_main = Projection().combine(rows) - rows[0]
    off_auxiliary = Projection().combine(rows.flip(0)) - rows[1]
    torch.testing.assert_close(PCGrad()(rows), off_main + off_auxiliary)


def test_without_conflict_it_is_the_sum() -> None:
    rows = torch.rand(3, 7)
    torch.testing.assert_close(Projection().combine(rows), Sum().combine(rows))
