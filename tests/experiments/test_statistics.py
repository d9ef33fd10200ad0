"""The statistics against rliable, against closed forms, and by their properties."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rliable import library, metrics

from experiments import statistics
from experiments.statistics import (
    Interval,
    bootstrap,
    bootstrap_means,
    iqm,
    optimality_gap,
    probability_of_improvement,
    stratified_bootstrap,
    stratified_sign_flip_test,
)

NUMBERS = st.floats(-1e3, 1e3)
MATRICES = arrays.arrays(float, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=NUMBERS)
"""Runs x games, as rliable takes them."""
# Few different numbers, so that ties are frequent.
TIED = st.integers(1, 3).flatmap(
    lambda games: st.tuples(
        *[
            arrays.arrays(
                float, st.tuples(st.integers(1, 5), st.just(games)), elements=st.integers(0, 3)
            )
        ]
        * 2
    )
)
PAIRS = st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=3), min_size=1, max_size=3)


def games(matrix):
    return list(matrix.T)


@given(matrix=MATRICES)
@settings(deadline=None, max_examples=40)
def test_aggregates_are_those_of_rliable(matrix):
    ours = [iqm, statistics.mean, statistics.median, optimality_gap]
    theirs = [
        metrics.aggregate_iqm,
        metrics.aggregate_mean,
        metrics.aggregate_median,
        metrics.aggregate_optimality_gap,
    ]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine(games(matrix)) == pytest.approx(other(matrix), rel=1e-12, abs=1e-10)


@given(both=TIED)
@settings(deadline=None, max_examples=40)
def test_the_probability_of_improvement_is_that_of_rliable(both):
    first, second = both
    expected = metrics.probability_of_improvement(first, second)
    assert probability_of_improvement(games(first), games(second)) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(iqm, metrics.aggregate_iqm), (optimality_gap, metrics.aggregate_optimality_gap)],
)
def test_intervals_are_close_to_those_of_rliable(ours, theirs):
    # Distinct numbers of runs and games, games on different scales.
    matrix = np.random.default_rng(1).normal([0.2, 0.5, 1.5], [0.1, 0.4, 0.8], size=(10, 3))
    np.random.seed(0)
    _, expected = library.get_interval_estimates(
        {"arm": matrix}, lambda scores: np.array([theirs(scores)]), reps=1_500
    )
    (low,), (high,) = expected["arm"]
    found = stratified_bootstrap(ours, games(matrix), replicates=3_000)
    # The ends of 1,500 replicates are known to about 3 % of the width.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_interval_of_a_probability_is_close_to_that_of_rliable():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.5, 1, size=(6, 2)), rng.normal(0, 1, size=(5, 2))
    np.random.seed(0)
    _, expected = library.get_interval_estimates(
        {"pair": [first, second]},
        # Held against rliable's above; this one is faster.
        lambda x, y: np.array([probability_of_improvement(games(x), games(y))]),
        reps=1_000,
    )
    (low,), (high,) = expected["pair"]
    found = stratified_bootstrap(
        probability_of_improvement, games(first), games(second), replicates=3_000
    )
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    # Of eight runs the middle four stay, whichever game they belong to: (2 + 3 + 4 + 5) / 4.
    assert iqm([np.array([7.0, 0, 3, 1]), np.array([2.0, 5, 4, 6])]) == 3.5
    # A quarter of three is less than one run: all stay.
    assert iqm([np.array([0.0, 1, 5])]) == 2


def test_what_exceeds_the_target_does_not_close_the_gap_elsewhere():
    # 1 - (0.5 + 1 + 1 + 0) / 4 with 3.0 counting as 1.
    assert optimality_gap([np.array([0.5, 1.0]), np.array([3.0, 0.0])]) == 0.375


def test_a_tie_is_half_a_win():
    # Against 1 and 2, the run with 1 ties and loses, the run with 3 wins twice: 2.5 of 4.
    assert probability_of_improvement([np.array([1.0, 3])], [np.array([1.0, 2])]) == 0.625


def test_every_game_counts_the_same_for_the_probability_whatever_its_runs():
    # Always better on the first game, never on the second one with its more runs.
    first = [np.array([2.0]), np.array([0.0, 0, 0])]
    second = [np.array([1.0]), np.array([1.0, 1, 1])]
    assert probability_of_improvement(first, second) == 0.5


@given(matrix=MATRICES, shuffle=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_runs_changes_nothing(matrix, shuffle):
    shuffled = [np.array(shuffle.sample(list(game), len(game))) for game in games(matrix)]
    for statistic in (iqm, statistics.mean, statistics.median, optimality_gap):
        assert statistic(shuffled) == pytest.approx(statistic(games(matrix)), abs=1e-9)


@given(matrix=MATRICES)
@settings(deadline=None, max_examples=40)
def test_the_interquartile_mean_lies_between_the_lowest_and_the_highest_run(matrix):
    margin = 1e-9
    assert matrix.min() - margin <= iqm(games(matrix)) <= matrix.max() + margin


@given(both=TIED)
@settings(deadline=None, max_examples=40)
def test_one_arm_or_the_other_is_better(both):
    first, second = map(games, both)
    there, back = (
        probability_of_improvement(first, second),
        probability_of_improvement(second, first),
    )
    assert there + back == pytest.approx(1, abs=1e-12)


def test_statistics_keep_the_axes_of_replicates():
    # Two replicates of 3 and 4 runs on two games.
    scores = [np.arange(6.0).reshape(2, 3), np.arange(8.0).reshape(2, 4)]
    for statistic in (iqm, statistics.mean, statistics.median, optimality_gap):
        each = [statistic([game[replicate] for game in scores]) for replicate in range(2)]
        assert statistic(scores).tolist() == each
    assert probability_of_improvement(scores, scores).tolist() == [0.5, 0.5]


def test_two_runs_give_their_range():
    # A resample's mean is the lower run, their mean or the higher one: 1/4, 1/2, 1/4.
    assert stratified_bootstrap(iqm, [np.array([1.0, 3.0])]) == Interval(1.0, 3.0)


def test_many_runs_give_the_normal_interval():
    scores = np.random.default_rng(3).normal(size=400)
    found = stratified_bootstrap(statistics.mean, [scores], replicates=5_000)
    half = 1.96 * scores.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (scores.mean() - half, scores.mean() + half), abs=0.1 * half
    )


def test_runs_are_drawn_within_their_game():
    # Both games are certain, so their mean is: across games it would lie anywhere in 1 to 5.
    assert stratified_bootstrap(statistics.mean, [np.array([1.0, 1]), np.array([5.0, 5])]) is None


def test_the_two_arms_are_drawn_apart():
    same = [np.array([1.0, 2, 3])]
    found = stratified_bootstrap(probability_of_improvement, same, same)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize(
    "scores",
    [[[4.0]], [[1.0, 2.0], [3.0]], [[2.0, 2.0, 2.0]]],
    ids=["one run", "one run of one game", "runs that are all the same"],
)
def test_no_interval_is_claimed_where_runs_cannot_tell(scores):
    assert stratified_bootstrap(statistics.mean, [np.array(game) for game in scores]) is None


def test_no_interval_is_claimed_for_a_probability_that_no_resample_changes():
    assert (
        stratified_bootstrap(probability_of_improvement, [np.array([3.0, 4])], [np.array([1.0, 2])])
        is None
    )


def test_intervals_are_the_same_every_time_and_as_many_replicates_as_asked_for_are_drawn():
    seen = []

    def counting(scores):
        seen.append(len(scores[0]))
        return statistics.mean(scores)

    scores = [np.array([0.0, 1, 4])]
    first = stratified_bootstrap(counting, scores, replicates=2_500)
    assert sum(seen) == 2_500
    assert first == stratified_bootstrap(statistics.mean, scores, replicates=2_500)


def test_a_wider_level_gives_a_wider_interval():
    scores = [np.random.default_rng(4).normal(size=20)]
    narrow, wide = (stratified_bootstrap(statistics.mean, scores, level=x) for x in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_band_of_curves_is_at_each_point_the_interval_of_the_mean():
    curves = np.random.default_rng(5).normal(size=(8, 3))
    low, high = bootstrap_means(curves, replicates=20_000)
    for point in range(3):
        found = stratified_bootstrap(statistics.mean, [curves[:, point]])
        width = found.high - found.low
        assert (low[point], high[point]) == pytest.approx((found.low, found.high), abs=width / 20)


@pytest.mark.parametrize(
    ("pairs_of_games", "expected"),
    [
        # Of the sums +-1 +-2 the two of size 3 are as far out: 2 of 4.
        ([[1.0, 2.0]], 0.5),
        # Only all of one sign: 2 of 8.
        ([[1.0, 1.0, 1.0]], 0.25),
        # Sums +-1 +-1: all four are at least 0.
        ([[1.0, -1.0]], 1.0),
        ([[0.0, 0.0, 0.0]], 1.0),
        # 1 / 1 and 2 / 2 for each of two, one a game: as the first, with weights 1, 1, 1.
        ([[1.0], [2.0, 2.0]], 0.25),
    ],
)
def test_the_sign_flip_test_counts_the_signs_that_are_as_extreme(pairs_of_games, expected):
    assert stratified_sign_flip_test([np.array(pairs) for pairs in pairs_of_games]) == expected


@given(pairs_of_games=PAIRS)
@settings(deadline=None, max_examples=40)
def test_the_sign_flip_test_is_the_enumeration_of_its_definition(pairs_of_games):
    def statistic(choice):
        signs = iter(choice)
        means = [np.mean([next(signs) * pair for pair in pairs]) for pairs in pairs_of_games]
        return abs(np.mean(means))

    choices = list(product((1, -1), repeat=sum(map(len, pairs_of_games))))
    observed = statistic(choices[0])
    expected = np.mean([statistic(choice) >= observed - 1e-9 for choice in choices])
    assert (
        stratified_sign_flip_test([np.array(pairs, float) for pairs in pairs_of_games]) == expected
    )


def test_many_pairs_are_tested_on_random_signs():
    pairs = np.random.default_rng(6).normal(0.4, 1, size=16)
    signs = 1 - 2 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    exact = np.mean(np.abs(signs @ pairs) >= abs(pairs.sum()) - 1e-9)
    # Three standard errors of a fraction among 2^14.
    error = 3 * np.sqrt(exact * (1 - exact) / 2**14)
    assert stratified_sign_flip_test([pairs]) == pytest.approx(exact, abs=error)
    # The observed signs count among the random ones, so that p is never 0.
    assert stratified_sign_flip_test([np.ones(60)]) == 1 / (1 + 2**14)


def plain(values, level=0.95):
    return bootstrap(statistics.mean, [values], replicates=10_000, level=level)


def test_the_interval_of_two_values_is_that_of_their_resamples():
    # The mean of two draws of {0, 1} is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    assert plain(np.array([0.0, 1.0]), level=0.95) == Interval(0.0, 1.0)
    assert plain(np.array([0.0, 1.0]), level=0.4) == Interval(0.5, 0.5)


def test_the_interval_is_that_of_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(2).exponential(2.0, size=50)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    found = plain(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_replicates_drawn_in_blocks_are_those_drawn_at_once():
    values = np.random.default_rng(7).normal(size=37)
    draws = np.random.default_rng(0).integers(37, size=(10_000, 37))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    found = plain(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
