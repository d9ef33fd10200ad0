"""The Gramian: its values, its range, its precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.gates.gramian import finite_rows, form


def test_cosines_and_norms_of_a_hand_computed_case() -> None:
    rows = torch.tensor([[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]])
    gramian = form(rows)
    # |g| = |h| = 5 and <g, h> = 12 + 12, so cos = 24 / 25.
    torch.testing.assert_close(gramian.norm, torch.tensor([[5.0, 5.0]]))
    torch.testing.assert_close(gramian.cosine, torch.tensor([[[1.0, 0.96], [0.96, 1.0]]]))


def test_cosine_times_norms_is_the_gram_matrix() -> None:
    rows = torch.randn(3, 7, dtype=torch.float64)
    gramian = form(rows)
    norm = gramian.norm[0]
    torch.testing.assert_close(gramian.cosine[0] * norm[:, None] * norm, rows @ rows.T)


def test_each_group_of_columns_is_measured_apart() -> None:
    rows = torch.randn(2, 3, 7)
    gramian = form(rows, (4, 1, 2))
    assert gramian.cosine.shape == (2, 3, 3, 3)
    assert gramian.norm.shape == (2, 3, 3)
    start = 0
    for group, length in enumerate((4, 1, 2)):
        alone = form(rows[..., start : start + length])
        torch.testing.assert_close(gramian.cosine[:, group], alone.cosine[:, 0])
        torch.testing.assert_close(gramian.norm[:, group], alone.norm[:, 0])
        start += length


def test_groups_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must add up to the 7 columns"):
        form(torch.randn(2, 7), (3, 3))


def test_a_vanished_row_has_cosines_of_exactly_zero_and_others_one_with_themselves() -> None:
    gramian = form(torch.stack([torch.randn(7), torch.zeros(7), torch.randn(7)]))
    assert gramian.cosine[0, 1].tolist() == [0.0, 0.0, 0.0]
    assert gramian.cosine[0, :, 1].tolist() == [0.0, 0.0, 0.0]
    assert gramian.cosine[0].diagonal().tolist() == [1.0, 0.0, 1.0]
    assert gramian.norm[0, 1] == 0.0


def test_orthogonal_rows_have_a_cosine_of_exactly_zero() -> None:
    assert form(torch.tensor([[1.0, 2.0], [-2.0, 1.0]])).cosine[0, 0, 1] == 0.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), exponents=st.tuples(*[st.integers(-30, 15)] * 2))
def test_scaling_a_row_scales_its_norm_and_leaves_its_cosine(
    seed: int, exponents: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    scale = torch.tensor([10.0**exponent for exponent in exponents], dtype=torch.float64)
    scaled = form((rows * scale[:, None]).float())
    plain = form(rows)
    torch.testing.assert_close(scaled.cosine.double(), plain.cosine, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scaled.norm.double(), plain.norm * scale, rtol=1e-5, atol=0.0)


def test_parallel_rows_never_leave_the_range_of_a_cosine() -> None:
    row = torch.randn(50, 1, 1000)
    cosine = form(torch.cat([row, 3.7 * row, -0.1 * row], dim=-2)).cosine
    assert cosine.abs().max() <= 1.0
    assert cosine[:, 0, 0, 2].max() < -0.9999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rows_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    # 4096 ones: a bfloat16 sum stops growing at 256, a float16 one at 2048.
    gramian = form(torch.ones(2, 4096, dtype=dtype))
    assert gramian.norm.dtype == gramian.cosine.dtype == torch.float32
    torch.testing.assert_close(gramian.norm, torch.full((1, 2), 64.0))


def test_autocast_changes_nothing() -> None:
    rows = torch.randn(3, 257)
    plain = form(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = form(rows)
    assert torch.equal(inside.cosine, plain.cosine)
    assert torch.equal(inside.norm, plain.norm)


def test_double_rows_stay_double() -> None:
    gramian = form(torch.randn(2, 7, dtype=torch.float64))
    assert gramian.cosine.dtype == gramian.norm.dtype == torch.float64


def test_a_row_with_any_bad_number_is_a_row_of_zeros() -> None:
    rows = torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [torch.inf, -torch.inf], [3.0, -3.0]])
    expected = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [3.0, -3.0]])
    found, finite = finite_rows(rows)
    assert torch.equal(found, expected)
    assert torch.equal(finite, (expected == rows).all(-1))
    assert finite_rows(rows.bfloat16())[0].dtype == torch.float32
