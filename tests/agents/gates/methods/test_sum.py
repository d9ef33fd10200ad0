"""The sum gate."""

import torch
from torchjd.aggregation import Sum as TorchjdSum

from agents.gates.methods.sum import Sum, SumConfig


def test_it_adds_all_rows() -> None:
    assert Sum().combine(torch.tensor([[1.0, 2.0], [-3.0, 5.0]])).tolist() == [-2.0, 7.0]


def test_it_agrees_with_torchjd() -> None:
    rows = torch.randn(3, 7)
    torch.testing.assert_close(Sum().combine(rows), TorchjdSum()(rows))


def test_auxiliaries_pass_unchanged_where_the_main_gradient_vanishes_or_is_not_finite() -> None:
    for main in (0.0, float("nan")):
        rows = torch.stack([torch.full((5,), main), torch.arange(5.0)])
        assert Sum().combine(rows).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_it_takes_one_pass_unless_it_measures() -> None:
    assert SumConfig().build().one_pass
    assert not SumConfig(measure=True).build().one_pass
