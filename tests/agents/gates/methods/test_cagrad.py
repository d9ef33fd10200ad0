"""CAGrad against its dual by SciPy, against its certificate and against TorchJD."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.testing import assert_close
from torchjd.aggregation import CAGrad as TorchJDCAGrad

from agents.gates.methods.cagrad import CAGrad, CAGradConfig


def random_rows(seed: int, num_losses: int, num_columns: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_losses, num_columns, generator=generator, dtype=torch.float64)


def dual(rows: Tensor, weight: Tensor, radius: float) -> Tensor:
    """The paper's objective: `<g_w, g_0> + sqrt(phi) |g_w|`, sqrt(phi) = c |g_0|."""
    mean, combined = rows.mean(0), weight @ rows
    return combined @ mean + radius * mean.norm() * combined.norm()


def ground_truth(rows: Tensor, radius: float) -> Tensor:
    """Is slow and close to the paper, for two losses."""

    def weighted(first: float) -> Tensor:
        return torch.tensor([first, 1 - first], dtype=torch.float64)

    best = min(
        (
            0.0,
            1.0,
            minimize_scalar(
                lambda first: float(dual(rows, weighted(first), radius)),
                bounds=(0, 1),
                method="bounded",
                options={"xatol": 1e-12},
            ).x,
        ),
        key=lambda first: float(dual(rows, weighted(first), radius)),
    )
    mean, combined = rows.mean(0), weighted(best) @ rows
    return mean + radius * mean.norm() / combined.norm() * combined


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), radius=st.sampled_from([0.1, 0.5, 0.9]))
def test_it_follows_algorithm_1_for_two_losses(seed: int, radius: float) -> None:
    rows = random_rows(seed, 2)
    # A minimum is flat: its place is known to the root of the precision.
    assert_close(CAGrad(radius).combine(rows), ground_truth(rows, radius), atol=1e-6, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    num_losses=st.integers(2, 5),
    radius=st.sampled_from([0.1, 0.5, 0.9]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_its_weights_and_its_direction_prove_each_other_optimal(
    seed: int, num_losses: int, radius: float, scale: float
) -> None:
    # min_i <g_i, d> never exceeds the dual objective of any weights; where they meet, both are
    # optimal.
    rows = random_rows(seed, num_losses)
    rows[0] *= scale
    judgement, mean = CAGrad(radius).judge(rows), rows.mean(0)
    added = judgement.weights[0] - 1 / num_losses
    assert (added >= -1e-12).all()
    reach = radius * mean.norm()
    assert_close((judgement.direction - mean).norm(), reach, atol=0, rtol=1e-10)
    gap = dual(rows, added / added.sum(), radius) - (rows @ judgement.direction).min()
    assert abs(gap) <= 1e-10 * rows.norm(dim=-1).max() ** 2


def test_the_worked_case() -> None:
    rows = torch.linalg.cholesky(torch.tensor([[19.25, -11.5], [-11.5, 16.5625]]).double())
    expected = ground_truth(rows, 0.5)
    assert_close(CAGrad(0.5).combine(rows), expected, atol=1e-6, rtol=0)
    weights = CAGrad(0.5).judge(rows).weights
    assert_close(weights, torch.tensor([[0.712239, 0.780449]]).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_losses", [2, 3, 5])
def test_torchjd_agrees_to_its_own_tolerance(num_losses: int) -> None:
    pytest.importorskip("cvxpy", reason="TorchJD's CAGrad needs cvxpy and clarabel")
    rows = random_rows(5, num_losses)
    theirs = TorchJDCAGrad(c=0.5)(rows)
    assert_close(CAGrad(0.5).combine(rows), theirs, atol=1e-3, rtol=1e-3)


def test_radius_zero_is_the_mean() -> None:
    rows = random_rows(0, 3)
    assert_close(CAGrad(0.0).combine(rows), rows.mean(0))


def test_equal_gradients_are_followed_further_by_the_radius() -> None:
    row = torch.randn(5)
    assert_close(CAGrad(0.5).combine(torch.stack([row, row, row])), 1.5 * row)


def test_opposed_gradients_shorten_the_mean_by_the_radius() -> None:
    # Mean (-1, 0) of (1, 0) and (-3, 0); the loss that gains least is the first.
    rows = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert_close(CAGrad(0.5).combine(rows), torch.tensor([-0.5, 0.0]))


def test_where_nothing_is_left_to_gain_the_mean_is_freed_of_its_conflicts() -> None:
    # Rows 0 and 1 cancel, so no direction gains on both.  Mean (1/6, 1/3): within 0.9 of its
    # length 0.373 lies its projection (0, 1/3) onto the directions that conflict with neither.
    rows = torch.tensor([[1.5, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert_close(CAGrad(0.9).combine(rows), torch.tensor([0.0, 1 / 3]).double())


@pytest.mark.parametrize("seed", range(5))
def test_more_losses_than_parameters_stay_within_the_radius(seed: int) -> None:
    rows = random_rows(seed, 5, 2)
    mean, direction = rows.mean(0), CAGrad(0.5).combine(rows)
    assert (direction - mean).norm() <= 0.5 * mean.norm() * (1 + 1e-9)


@pytest.mark.parametrize("radius", [1.0, -0.1, float("nan")])
def test_a_radius_outside_its_range_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match=r"radius must be in \[0, 1\), not"):
        CAGradConfig(radius=radius)
