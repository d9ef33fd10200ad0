import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.report import estimates as peers
from experiments.sweep.estimates import (
    Difference,
    bootstrap,
    differences,
    estimates,
    sign_flip_test,
)


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


@settings(deadline=None, max_examples=20)
# Whole numbers, so that it is plain which sums of signs are equal.
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=9))
def test_p_is_that_of_the_reports(values):
    wanted = peers.sign_flip_test([np.array(values, float)])
    np.testing.assert_allclose(sign_flip_test(column(*values)), [wanted])


def test_columns_are_tested_apart():
    columns = np.random.default_rng(0).normal(0.2, 1, (40, 3))
    alone = [sign_flip_test(columns[:, [number]])[0] for number in range(3)]
    np.testing.assert_allclose(sign_flip_test(columns), alone)


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide_either_side():
    columns = np.random.default_rng(0).normal(3, 2, (400, 1))
    low, high = bootstrap(columns)
    # 1.96 * 2 / sqrt(400) = 0.196, but for the sample's own spread and the replicates'.
    np.testing.assert_allclose(high - low, 2 * 0.196, rtol=0.1)
    assert low < columns.mean() < high


def test_what_does_not_vary_has_an_interval_of_no_width():
    [estimate] = estimates(column(2, 2, 2))
    assert (estimate.mean, estimate.low, estimate.high) == (2, 2, 2)


@pytest.mark.parametrize(
    ("difference", "sign"),
    [
        (Difference(1.0, 0.5, 1.5, 0.01), 1),
        (Difference(-1.0, -1.5, -0.5, 0.01), -1),
        (Difference(1.0, -0.5, 1.5, 0.01), 0),
        (Difference(1.0, 0.5, 1.5, 0.06), 0),
    ],
)
def test_a_difference_is_shown_by_both_its_interval_and_its_p(difference, sign):
    assert difference.sign == sign


def test_differences_hold_mean_interval_and_p():
    [found] = differences(column(1, 2, 3))
    assert found.mean == 2
    assert found.low < 2 < found.high
    assert found.p == 0.25
