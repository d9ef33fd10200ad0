"""The numbers of a report, derived by hand, and where there are none to give."""

from dataclasses import replace

import pytest

from experiments.report.scores import (
    ALL,
    AREA,
    FINAL,
    HUMAN,
    RAW,
    compare,
    final_is_evaluation,
    measures,
    summarise,
    units,
)


def summary(arms, arm, env, measure=FINAL, unit=RAW):
    (row,) = (
        row
        for row in summarise(arms)
        if (row.arm, row.env, row.measure, row.unit) == (arm, env, measure, unit)
    )
    return row


def comparison(arms, env, measure=FINAL):
    (row,) = (row for row in compare(arms) if (row.env, row.measure) == (env, measure))
    return row


def test_an_arm_s_numbers_on_one_game(build_arm):
    row = summary([build_arm("a", Catch=(1.0, 2, 6, 5, 8))], "a", "Catch")
    assert row.values == (1, 2, 6, 5, 8)
    assert (row.runs, row.steps) == (5, 100)
    # A quarter of five is one run: (2 + 5 + 6) / 3.
    assert row.iqm.value == pytest.approx(13 / 3)
    assert (row.mean.value, row.median.value) == (pytest.approx(22 / 5), 5)
    assert row.iqm.interval.low < row.iqm.value < row.iqm.interval.high
    assert row.optimality_gap is None


def test_scores_of_games_with_a_reference_are_human_normalised_too(build_arm):
    # Breakout: random 1.7, human 30.5, hence 1.7 -> 0, 16.1 -> 1/2, 59.3 -> 2.
    arms = [build_arm("a", Breakout=(1.7, 16.1, 59.3))]
    assert summary(arms, "a", "Breakout").mean.value == pytest.approx(77.1 / 3)
    row = summary(arms, "a", "Breakout", unit=HUMAN)
    assert row.values == pytest.approx((0, 0.5, 2))
    # 1 - (0 + 0.5 + 1) / 3.
    assert row.optimality_gap.value == pytest.approx(0.5)


def test_all_games_together_are_averaged_in_human_units(build_arm):
    # Pong: random -20.7, human 14.6, hence -20.7 -> 0 and 14.6 -> 1.
    arms = [build_arm("a", Breakout=(1.7, 59.3), Pong=(14.6, -20.7))]
    row = summary(arms, "a", ALL, unit=HUMAN)
    assert row.values == pytest.approx((0, 2, 1, 0))
    # Of 0, 0, 1, 2 the middle two.
    assert row.iqm.value == pytest.approx(0.5)
    # The games' means are 1 and 0.5.
    assert row.mean.value == row.median.value == pytest.approx(0.75)


def test_the_area_is_the_mean_of_the_curve(build_run, build_arm):
    arm = build_arm("a", Catch=(0.0,))
    rising = replace(arm, runs={"Catch": (build_run(returns=(0.0, 4.0), env="Catch"),)})
    assert summary([rising], "a", "Catch", AREA).mean.value == 2
    assert summary([rising], "a", "Catch").mean.value == 4


def test_all_games_are_those_that_every_arm_has_played(build_arm):
    arms = [
        build_arm("a", Breakout=(1.0,), Pong=(1.0,), Qbert=(1.0,)),
        build_arm("b", Breakout=(2.0,), Pong=(2.0,)),
    ]
    assert summary(arms, "a", ALL, unit=HUMAN).runs == 2
    assert [row.arm for row in summarise(arms) if row.env == "Qbert"] == ["a"] * 4
    assert not any(row.env == "Qbert" for row in compare(arms))


def test_one_common_game_is_not_summed_up_again(build_arm):
    arms = [build_arm("a", Breakout=(1.0,), Pong=(1.0,)), build_arm("b", Pong=(2.0,))]
    assert not any(row.env == ALL for row in [*summarise(arms), *compare(arms)])


@pytest.mark.parametrize(
    ("envs", "expected"),
    [
        (("Breakout",), (RAW, HUMAN)),
        (("Catch",), (RAW,)),
        (("Breakout", "Pong"), (HUMAN,)),
        (("CartPole-v1", "Catch"), (RAW,)),
        (("Breakout", "Catch"), ()),
    ],
)
def test_raw_scores_are_averaged_only_over_games_without_any_reference(envs, expected):
    assert units(envs) == expected


def test_games_that_do_not_add_up_still_have_a_probability(build_arm):
    arms = [
        build_arm("a", Breakout=(1.0, 2), Catch=(0.0, 1)),
        build_arm("b", Breakout=(3.0, 4), Catch=(0.0, 1)),
    ]
    assert not any(row.env == ALL for row in summarise(arms))
    row = comparison(arms, ALL)
    # Always on Breakout, half of the time on Catch.
    assert row.probability.value == 0.75
    assert (row.unit, row.pairs, row.difference, row.p_value) == ("", 0, None, None)


def test_an_arm_is_compared_with_every_arm_before_it(build_arm):
    arms = [build_arm(name, Catch=(float(place),)) for place, name in enumerate("abc")]
    finals = [(row.arm, row.against) for row in compare(arms) if row.measure == FINAL]
    assert finals == [("b", "a"), ("c", "a"), ("c", "b")]


def test_the_probability_is_that_of_the_later_arm_to_beat_the_earlier(build_arm):
    arms = [build_arm("a", Catch=(1.0, 3)), build_arm("b", Catch=(2.0, 4, 4))]
    row = comparison(arms, "Catch")
    # 2 beats 1, each 4 beats both: 5 of 6.
    assert row.probability.value == pytest.approx(5 / 6)
    assert (row.runs, row.runs_against) == (3, 2)


def test_runs_of_the_same_seed_are_paired(build_arm):
    # Seeds 1 and 2 are common; the third run of b has no partner.
    arms = [build_arm("a", Catch=(1.0, 3)), build_arm("b", Catch=(2.0, 7, 100))]
    row = comparison(arms, "Catch")
    # Differences 1 and 4; of the sums +-1 +-4 two are as far out.
    assert (row.pairs, row.difference.value, row.p_value) == (2, 2.5, 0.5)
    assert (row.difference.interval.low, row.difference.interval.high) == (1, 4)


def test_without_a_common_seed_nothing_is_paired(build_arm, build_run):
    first = build_arm("a", Catch=(1.0,))
    second = replace(first, name="b", runs={"Catch": (build_run(seed=5, env="Catch"),)})
    row = comparison([first, second], "Catch")
    assert (row.pairs, row.difference, row.p_value) == (0, None, None)


def test_differences_of_all_games_are_in_human_units(build_arm):
    arms = [
        build_arm("a", Breakout=(1.7,), Pong=(-20.7,)),
        build_arm("b", Breakout=(30.5,), Pong=(-20.7,)),
    ]
    row = comparison(arms, ALL)
    assert (row.unit, row.pairs) == (HUMAN, 2)
    # 1 on Breakout, 0 on Pong.
    assert row.difference.value == pytest.approx(0.5)


def test_a_single_run_has_no_interval(build_arm):
    row = summary([build_arm("a", Catch=(1.0,))], "a", "Catch")
    assert row.iqm.interval is row.mean.interval is row.median.interval is None


def test_evaluations_count_only_if_every_last_policy_has_one(build_run, build_arm):
    arm = build_arm("a", Catch=(0.0,))

    def arms(*evaluations):
        runs = [
            build_run(seed=seed, env="Catch", returns=(1.0,), evaluation=evaluation)
            for seed, evaluation in enumerate(evaluations)
        ]
        return [replace(arm, runs={"Catch": tuple(runs)})]

    def finals(arms):
        return [measures(arms)[FINAL](run) for run in arms[0].runs["Catch"]]

    both = arms({"mean": 5.0}, {"mean": 6.0})
    assert final_is_evaluation(both)
    assert finals(both) == [5, 6]
    # One is missing, or was made before the run was resumed: the curves of all are taken.
    for some in (
        arms({"mean": 5.0}, None),
        arms({"mean": 5.0}, {"mean": 6.0, "trained_steps": 99}),
    ):
        assert not final_is_evaluation(some)
        assert finals(some) == [1, 1]
