"""Small matrices: products, systems, and what is done before and after."""

import torch
from torch.testing import assert_close

from agents.gates.algebra import in_own_lengths, multiply, quadratic, solve, steady


def test_products_are_those_of_matrices() -> None:
    matrix, vector = torch.randn(2, 3, 3), torch.randn(2, 3)
    assert_close(multiply(matrix, vector), torch.einsum("bij,bj->bi", matrix, vector))
    positive = matrix @ matrix.mT
    expected = torch.einsum("bi,bij,bj->b", vector, positive, vector)
    assert_close(quadratic(positive, vector), expected)


def test_a_square_is_never_negative_by_rounding() -> None:
    assert quadratic(torch.tensor([[1.0, -1.1], [-1.1, 1.0]]), torch.ones(2)) == 0.0


def test_systems_are_solved_for_vectors_and_for_columns() -> None:
    matrix, solution = torch.randn(4, 3, 3).double(), torch.randn(4, 3, 2).double()
    assert_close(solve(matrix, matrix @ solution), solution)
    assert_close(solve(matrix, (matrix @ solution)[..., 0]), solution[..., 0])


def test_a_singular_system_does_not_stop_the_others() -> None:
    matrix = torch.stack([torch.ones(2, 2), 2 * torch.eye(2)])
    assert solve(matrix, torch.ones(2, 2))[1].tolist() == [0.5, 0.5]


def test_steady_cosines_have_a_minimum_and_set_vanished_rows_apart() -> None:
    row = torch.randn(100)
    rows = torch.stack([row, row, -row, 0 * row])
    cosine = (rows / row.norm()) @ (rows / row.norm()).mT
    result = steady(cosine)
    assert result.dtype == torch.float64
    assert torch.linalg.eigvalsh(result).min() > 0
    assert result[3].tolist() == [0.0, 0.0, 0.0, result[0, 0]]
    assert_close(result[:3, :3].float(), cosine[:3, :3], atol=1e-6, rtol=0)


def test_coefficients_of_unit_rows_become_weights_of_rows() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.1], [0.0, 0.0]], dtype=torch.float64)
    coefficient = torch.tensor([[0.0, 2.0, 0.0], [7.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    # Row 0, of length 5, made 2 of unit row 1: 10 x (0, 1).  Row 1, of length 0.1, made 7 of unit
    # row 0 and 1 of itself: 0.7 x (0.6, 0.8) + 0.1 x (0, 1).
    weights = in_own_lengths(coefficient, rows.norm(dim=-1))
    assert_close(weights @ rows, torch.tensor([0.42, 10 + 0.56 + 0.1]).double())
    assert weights[2] == 0.0
