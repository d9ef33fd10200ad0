"""The orthogonal gate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.gates.methods.projection import Orthogonal, Projection


def test_the_parallel_part_is_removed_whatever_its_sign() -> None:
    # (3, 4) and (-5, 1) keep (0, 4) and (0, 1) beside g = (2, 0).
    judgement = Orthogonal().judge(torch.tensor([[2.0, 0.0], [3.0, 4.0], [-5.0, 1.0]]))
    torch.testing.assert_close(judgement.direction, torch.tensor([2.0, 5.0]))
    # Weight of g: 1 - 6/4 + 10/4.
    torch.testing.assert_close(judgement.weights, torch.tensor([[2.0, 1.0, 1.0]]))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 4))
def test_auxiliaries_neither_help_nor_hurt_the_main_loss(seed: int, num_losses: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_losses, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(rows[0] @ Orthogonal().combine(rows), rows[0] @ rows[0])


def test_where_all_conflict_it_is_the_projection() -> None:
    main, rest = torch.rand(1, 7, dtype=torch.float64), -torch.rand(2, 7, dtype=torch.float64)
    rows = torch.cat([main, rest])
    for decay in (0.0, 0.9):
        torch.testing.assert_close(Orthogonal(decay).combine(rows), Projection(decay).combine(rows))


@pytest.mark.parametrize("main", [0.0, float("nan")])
def test_auxiliaries_pass_where_the_main_gradient_vanishes_or_is_not_finite(main: float) -> None:
    rows = torch.stack([torch.full((5,), main), torch.arange(5.0)])
    assert Orthogonal().combine(rows).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
