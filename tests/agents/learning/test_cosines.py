import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.gates.gramian import form
from agents.learning.tallies import MeanCosines, pooled_cosines


def test_cosines_over_all_columns_follow_from_those_of_the_groups():
    # (3, 4 | 0) and (0, 5 | 12): inner product 20, norms 5 and 13.
    rows = torch.tensor([[3.0, 4.0, 0.0], [0.0, 5.0, 12.0]])
    expected = torch.tensor([[1.0, 20 / 65], [20 / 65, 1.0]])
    assert_close(pooled_cosines(form(rows, (2, 1))), expected)
    assert_close(pooled_cosines(form(rows)), expected)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), size=st.sampled_from([1e-20, 1.0, 1e15]))
def test_groups_change_no_cosine_however_large_the_gradients(seed, size):
    rows = size * torch.randn(3, 7, generator=torch.Generator().manual_seed(seed))
    assert_close(
        pooled_cosines(form(rows, (4, 1, 2))), pooled_cosines(form(rows)), rtol=1e-4, atol=1e-5
    )


def test_a_vanished_row_is_along_with_nothing():
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert_close(pooled_cosines(form(rows, (1, 1))), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_judgements_are_averaged_without_references_until_they_are_drained():
    cosines = MeanCosines()
    assert cosines.drain() is None
    # Beside three losses a reference row.  Cosines of the first two: 1, then -1/2; of the first
    # and the third: 0, then 1; of the second and the third: 0, then -1/2.
    first = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    second = torch.tensor([[1.0, 0.0], [-1.0, 3**0.5], [3.0, 0.0], [1.0, 1.0]])
    for rows in (first, second):
        cosines.add(form(rows), num_losses=3)
    expected = torch.tensor([[1.0, 0.25, 0.5], [0.25, 1.0, -0.25], [0.5, -0.25, 1.0]])
    assert_close(cosines.drain(), expected)
    assert cosines.drain() is None


def test_one_auxiliary_makes_no_matrix():
    cosines = MeanCosines()
    cosines.add(form(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])), num_losses=2)
    assert cosines.drain() is None
