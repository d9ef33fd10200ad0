import torch
from torch.testing import assert_close

from agents.statistics import explained_variance, explained_variances, masked_mean

NAN, INF = float("nan"), float("inf")


def test_a_masked_mean_is_over_valid_entries_whatever_stands_at_the_others():
    value = torch.tensor([[1.0, NAN], [INF, 4.0], [-INF, 1.0]])
    valid = torch.tensor([[True, False], [False, True], [False, True]])
    assert masked_mean(value, valid) == 2.0
    assert masked_mean(value, torch.zeros_like(valid)) == 0.0


def test_explained_variance_is_1_for_a_perfect_value_and_0_for_a_constant_one():
    target = torch.tensor([[1.0, 3.0], [5.0, 100.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert explained_variance(target, target, valid) == 1.0
    assert explained_variance(target + 7.0, target, valid) == 1.0
    assert explained_variance(torch.full_like(target, 9.0), target, valid) == 0.0
    # Residuals 0, 1, 2 with variance 2/3; targets 1, 3, 5 with variance 8/3.
    value = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert_close(explained_variance(value, target, valid), torch.tensor(0.75))
    assert explained_variance(value, torch.ones_like(target), valid).isnan()


def test_the_explained_variance_of_vectors_adds_up_what_their_entries_vary():
    valid = torch.tensor([True, True, True, False])
    target = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0], [NAN, 9.0]])
    value = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 3.0], [INF, 0.0]])
    # Targets vary by 8/3 + 2; residuals 0, 1, 2 by 2/3, those of the second entry by 0.
    expected = 1 - (2 / 3) / (8 / 3 + 2)
    assert_close(explained_variance(value, target, valid), torch.tensor(expected))
    assert explained_variance(target, target, valid) == 1.0
    assert explained_variance(value, torch.ones_like(target), valid).isnan()
    assert explained_variance(value, target, torch.zeros_like(valid)).isnan()


def test_the_explained_variance_of_vectors_of_one_entry_is_that_of_numbers():
    value, target = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).unbind()
    valid = torch.tensor([[True, True], [False, True], [True, True]])
    assert_close(
        explained_variance(value.unsqueeze(-1), target.unsqueeze(-1), valid),
        explained_variance(value, target, valid),
    )


def test_the_explained_variances_are_those_of_every_entry_by_itself():
    generator = torch.Generator().manual_seed(1)
    value, target = torch.randn(2, 4, 3, 2, generator=generator).unbind()
    valid = torch.rand(4, 3, generator=generator) < 0.7
    each = [explained_variance(value[..., k], target[..., k], valid) for k in range(2)]
    assert_close(explained_variances(value, target, valid), torch.stack(each))
