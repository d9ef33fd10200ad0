"""UPGrad against projections by SciPy, and against TorchJD."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor
from torch.testing import assert_close
from torchjd.aggregation import UPGrad as TorchJDUPGrad
from torchjd.linalg import DualConeProjector, PSDMatrix

from agents.gates.methods.upgrad import UPGrad


def random_rows(seed: int, num_losses: int, num_columns: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_losses, num_columns, generator=generator, dtype=torch.float64)


def ground_truth(rows: Tensor) -> Tensor:
    """Projects every row onto the dual cone: `g_i + rows' z` with z = argmin |g_i + rows' z|."""
    projected = [row + rows.T @ torch.tensor(nnls(rows.T.numpy(), -row.numpy())[0]) for row in rows]
    return torch.stack(projected).mean(0)


class NonNegativeLeastSquares(DualConeProjector):
    """TorchJD's own projector needs a solver that we do not install; this one has SciPy's."""

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803
        values, vectors = torch.linalg.eigh(G)
        root = (vectors * values.clamp(min=0).sqrt()).mT  # root' root = G
        added = np.array([nnls(root.numpy(), -(root @ each).numpy())[0] for each in U])
        return U + torch.from_numpy(added)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 5), scale=st.sampled_from([0.01, 1.0]))
def test_it_is_the_mean_of_the_projections(seed: int, num_losses: int, scale: float) -> None:
    rows = random_rows(seed, num_losses)
    rows[0] *= scale
    assert_close(UPGrad().combine(rows), ground_truth(rows), atol=1e-10, rtol=1e-10)


def test_the_worked_case() -> None:
    # Two losses: PCGrad's projections, half of them.
    rows = torch.linalg.cholesky(torch.tensor([[19.25, -11.5], [-11.5, 16.5625]]).double())
    expected = torch.tensor([[0.5 + 5.75 / 19.25, 0.5 + 5.75 / 16.5625]]).double()
    assert_close(UPGrad().judge(rows).weights, expected)


@pytest.mark.parametrize("num_losses", [2, 3, 4])
def test_torchjd_agrees(num_losses: int) -> None:
    rows = random_rows(7, num_losses, 5)
    theirs = TorchJDUPGrad(projector=NonNegativeLeastSquares())(rows)
    assert_close(UPGrad().combine(rows), theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_more_losses_than_parameters_raise_none(seed: int) -> None:
    rows = random_rows(seed, 5, 3)
    rows[4] = rows[1]
    direction = UPGrad().combine(rows)
    assert_close(direction, ground_truth(rows), atol=1e-10, rtol=0)
    assert (rows @ direction >= -1e-10).all()


def test_scaling_one_row_scales_its_projection() -> None:
    rows = random_rows(1, 3)
    scaled = rows * torch.tensor([[1.0], [1e6], [1.0]])
    # The cone stays as it was, and with it the projection of row 1, now a million times as long.
    once, often = UPGrad().combine(rows), UPGrad().combine(scaled)
    twice = UPGrad().combine(rows * torch.tensor([[1.0], [2.0], [1.0]]))
    assert_close(often - once, (1e6 - 1) * (twice - once))


def test_exactly_opposed_gradients_leave_nothing() -> None:
    rows = torch.tensor([[1.0, 2.0], [-3.0, -6.0]])
    assert_close(UPGrad().combine(rows), torch.zeros(2), atol=1e-6, rtol=0)


def test_more_than_eight_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 losses, not 9"):
        UPGrad().judge(torch.randn(9, 5))
