import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.report.estimates import Interval, holm, paired


def test_pairs_are_compared_seed_by_seed():
    found = paired(np.array([1.5, 2.6, 3.4]), np.array([1.0, 2.0, 3.0]))
    assert found.difference == pytest.approx(0.5)
    # Three draws of the same seed come 1 time in 27, which is more than 2.5 %.
    assert (found.interval.low, found.interval.high) == pytest.approx((0.4, 0.6))
    # All three of one sign: 2 of the 8 choices of signs are as far from zero.
    assert found.p == 0.25


def test_runs_that_are_the_same_differ_by_nothing_for_certain():
    found = paired(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert (found.difference, found.interval, found.p) == (0.0, Interval(0.0, 0.0), 1.0)


def test_a_single_seed_has_no_interval():
    assert paired(np.array([1.0]), np.array([3.0])).interval is None


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less():
    # 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06 again, and 0.9 * 1.
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])


def test_a_larger_p_value_never_ends_below_a_smaller_one():
    # 0.02 * 3 = 0.06 holds up 0.025 * 2 = 0.05.
    assert holm([0.025, 0.02, 0.5]) == pytest.approx([0.06, 0.06, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(deadline=None)
def test_what_is_corrected_stays_a_probability_between_its_own_and_bonferronis(p_values):
    for own, corrected in zip(p_values, holm(p_values), strict=True):
        assert own <= corrected <= min(1, own * len(p_values)) or corrected == pytest.approx(own)


def test_holm_is_rarely_wrong_where_nothing_differs():
    rng = np.random.default_rng(0)
    draws = rng.random((2_000, 22))
    wrong = np.mean([min(holm(row.tolist())) < 0.05 for row in draws])
    # One in twenty families, give or take four standard deviations of 2,000.
    assert wrong == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 2_000))
