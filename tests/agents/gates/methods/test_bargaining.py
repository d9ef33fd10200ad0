"""The bargaining solution against its own equation, and against closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates.methods.nash import ITERATIONS, ITERATIONS_IF_EQUAL, LARGEST, bargain, sensitivity


def cosines(seed: int, num_rows: int, num_columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_rows, num_columns, generator=generator, dtype=torch.float64)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    return (rows @ rows.T).fill_diagonal_(1.0)


def skewed(num_rows: int) -> Tensor:
    """The main loss has nearly all the power."""
    return torch.tensor([1 - 1e-4 * (num_rows - 1)] + [1e-4] * (num_rows - 1)).double()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_rows=st.integers(1, 8))
def test_every_row_gets_its_preference(seed: int, num_rows: int) -> None:
    cosine = cosines(seed, num_rows, num_rows + 2)
    for preference, iterations in (
        (torch.ones(num_rows).double(), ITERATIONS_IF_EQUAL),
        (skewed(num_rows), ITERATIONS),
        (skewed(num_rows).flip(-1), ITERATIONS),
    ):
        a = bargain(cosine, preference, iterations)
        assert (a > 0).all()
        assert_close(a * (cosine @ a), preference, atol=1e-10, rtol=0)


@pytest.mark.parametrize("cosine", [0.999, 0.0, -0.9, -0.9999, -1 + 2e-6])
def test_two_rows_have_a_closed_form(cosine: float) -> None:
    # By symmetry a_0 = a_1 = a with a (a + c a) = 1.
    matrix = torch.tensor([[1.0, cosine], [cosine, 1.0]], dtype=torch.float64)
    expected = torch.full((2,), (1 + cosine) ** -0.5, dtype=torch.float64)
    assert_close(bargain(matrix, torch.ones(2).double()), expected, atol=0, rtol=1e-8)


@pytest.mark.parametrize("cosine", [0.999, 0.0, -0.9, -0.9999])
@pytest.mark.parametrize("preference", [(0.5, 0.5), (0.9998, 2e-4), (1e-4, 0.9999)])
def test_the_closed_form_and_newtons_method_agree(
    cosine: float, preference: tuple[float, float]
) -> None:
    # A third row, at right angles to the two, changes nothing for them.
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 1] = matrix[1, 0] = cosine
    target = torch.tensor([*preference, 1.0], dtype=torch.float64)
    three, two = bargain(matrix, target), bargain(matrix[:2, :2], target[:2])
    assert_close(three[:2], two, atol=0, rtol=1e-8)
    assert_close(three[2], torch.tensor(1.0).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposed_rows_are_held_at_the_largest_weight(dtype: torch.dtype) -> None:
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=dtype)
    assert_close(
        bargain(matrix, torch.ones(2, dtype=dtype)), torch.full((2,), LARGEST, dtype=dtype)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_rows_that_cancel_get_weights_that_cancel_them(dtype: torch.dtype) -> None:
    # At angles of 120 degrees: equal weights, and nothing is left.
    matrix = torch.full((3, 3), -0.5, dtype=dtype).fill_diagonal_(1.0)
    a = bargain(matrix, torch.ones(3, dtype=dtype))
    assert_close(a, torch.full((3,), LARGEST, dtype=dtype), atol=0, rtol=1e-3)


def test_equal_rows_share_one_weight() -> None:
    # a (3 a) = 1.
    assert_close(bargain(torch.ones(3, 3), torch.ones(3)), torch.full((3,), 3**-0.5))


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_cancel_are_finite_in_float32(seed: int) -> None:
    matrix = cosines(seed, 5, 2).float()
    for preference in (torch.ones(5), skewed(5).float()):
        a = bargain(matrix, preference)
        assert a.isfinite().all()
        assert (a > 0).all()


@pytest.mark.parametrize("num_rows", [2, 4])
def test_the_sensitivity_is_the_difference_that_a_small_change_makes(num_rows: int) -> None:
    cosine, preference = cosines(1, num_rows, 6), torch.arange(1.0, num_rows + 1).double() / 10
    step = 1e-5 * torch.eye(num_rows, dtype=torch.float64)
    shape = (num_rows, num_rows, num_rows)
    more, less = (
        bargain(cosine.expand(shape), (preference + sign * step).expand(shape[1:]))
        for sign in (1, -1)
    )
    expected = ((more - less) / 2e-5).mT  # [of a, by p]
    found = sensitivity(cosine, preference, bargain(cosine, preference))
    assert_close(found, expected, atol=1e-8, rtol=1e-6)
