"""Differences of arms, paired by seed or world: signs, intervals, and corrected p-values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import (
    Difference,
    Interval,
    bootstrap_means,
    compare_with,
    differences,
    estimates,
    holm,
    paired,
    sign_flip_test,
)


def test_arms_of_other_seeds_are_not_compared():
    arms = {"main only": {1: 0.0, 2: 1.0}, "cosine": {1: 0.5}}
    with pytest.raises(ValueError, match="cosine has other seeds than main only"):
        compare_with(arms, "main only")


def test_without_the_arm_to_compare_with_it_is_named():
    with pytest.raises(ValueError, match="no finished run of main only: train that arm first"):
        compare_with({"cosine": {1: 0.5}}, "main only")


def test_arms_are_compared_by_seed_whatever_the_order():
    arms = {"main only": {1: 0.0, 2: 10.0}, "cosine": {2: 11.0, 1: 1.0}}
    found = compare_with(arms, "main only")
    assert found["cosine"] == Difference(1.0, Interval(1.0, 1.0), 0.5)
    assert found["main only"].value == 0


def column(*values):
    return np.array(values, float)[:, None]


def test_three_agreeing_worlds_cannot_be_surer_than_a_quarter():
    # Of 2**3 choices of signs, +++ and --- are as far from zero as what was seen.
    np.testing.assert_allclose(sign_flip_test(column(1, 2, 3)), [0.25])


def test_no_difference_at_all_is_as_likely_as_can_be():
    np.testing.assert_allclose(sign_flip_test(column(0, 0, 0)), [1.0])
    np.testing.assert_allclose(sign_flip_test(np.zeros((40, 1))), [1.0])


def test_with_many_worlds_signs_are_drawn_and_p_is_never_zero():
    # All of 30 agree: no random choice of signs does, but the one observed counts.
    np.testing.assert_allclose(sign_flip_test(np.ones((30, 1))), [1 / (2**14 + 1)])


def test_columns_are_tested_apart():
    columns = np.random.default_rng(0).normal(0.2, 1, (40, 3))
    alone = [sign_flip_test(columns[:, [number]])[0] for number in range(3)]
    np.testing.assert_allclose(sign_flip_test(columns), alone)


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide_either_side():
    columns = np.random.default_rng(0).normal(3, 2, (400, 1))
    low, high = bootstrap_means(columns)
    # 1.96 * 2 / sqrt(400) = 0.196, but for the sample's own spread and the replicates'.
    np.testing.assert_allclose(high - low, 2 * 0.196, rtol=0.1)
    assert low < columns.mean() < high


def test_what_does_not_vary_has_an_interval_of_no_width():
    [estimate] = estimates(column(2, 2, 2))
    assert (estimate.value, estimate.low, estimate.high) == (2, 2, 2)


@pytest.mark.parametrize(
    ("difference", "sign"),
    [
        (Difference(1.0, Interval(0.5, 1.5), 0.01), 1),
        (Difference(-1.0, Interval(-1.5, -0.5), 0.01), -1),
        (Difference(1.0, Interval(-0.5, 1.5), 0.01), 0),
        (Difference(1.0, Interval(0.5, 1.5), 0.06), 0),
    ],
)
def test_a_difference_is_shown_by_both_its_interval_and_its_p(difference, sign):
    assert difference.sign == sign


def test_differences_hold_mean_interval_and_p():
    [found] = differences(column(1, 2, 3))
    assert found.value == 2
    assert found.low < 2 < found.high
    assert found.p == 0.25


def test_pairs_are_compared_seed_by_seed():
    found = paired(np.array([1.5, 2.6, 3.4]), np.array([1.0, 2.0, 3.0]))
    assert found.value == pytest.approx(0.5)
    # Three draws of the same seed come 1 time in 27, which is more than 2.5 %.
    assert (found.interval.low, found.interval.high) == pytest.approx((0.4, 0.6))
    # All three of one sign: 2 of the 8 choices of signs are as far from zero.
    assert found.p == 0.25


def test_runs_that_are_the_same_differ_by_nothing_for_certain():
    found = paired(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert (found.value, found.interval, found.p) == (0.0, Interval(0.0, 0.0), 1.0)


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
