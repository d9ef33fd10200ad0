"""The sentences beneath the tables: what they conclude, and what they warn of."""

import re
from dataclasses import replace

import pytest

from experiments.report.scores import compare, summarise
from experiments.report.tables import Report, sentences


def said(*arms):
    return sentences(Report(arms, summarise(arms), compare(arms)))


def with_runs(arm, **changes):
    """The arm with every run changed."""
    runs = {
        env: tuple(replace(run, **changes) for run in of_game) for env, of_game in arm.runs.items()
    }
    return replace(arm, runs=runs)


def test_the_leading_arm_is_compared_with_the_first_and_the_next_best(build_arm):
    words = said(
        build_arm("a", Catch=(1.0, 2, 3)),
        build_arm("b", Catch=(5.0, 6, 4)),
        build_arm("c", Catch=(3.0, 5, 5)),
    )
    found = [sentence for sentence in words if sentence.startswith("On Catch")]
    assert len(found) == 2
    # Of nine pairings all are won; the differences are 4, 4 and 1.
    assert found[0].startswith(
        "On Catch, 'b' ends above 'a' with probability 1.00, judged by 6 runs (no interval: all "
        "resamples of these runs say the same); of the same seed it ends 3.00 higher on average "
        "(3 pairs, 95 % interval 1.00 to 4.00, sign-flip p = 0.25, the least that 3 pairs can give)"
    )
    # 5 beats 3 and ties twice, 6 beats all, 4 beats 3: (2 + 3 + 1) / 9.
    assert "'b' ends above 'c' with probability 0.67" in found[1]


def test_an_earlier_arm_that_leads_has_its_numbers_turned_round(build_arm):
    words = said(build_arm("a", Catch=(3.0, 9)), build_arm("b", Catch=(1.0, 4)))
    # b beats a once in four: a wins with 0.75; resamples reach from 0 (3 against 4) to 1.
    assert words[1].startswith(
        "On Catch, 'a' ends above 'b' with probability 0.75, judged by 4 runs (95 % interval 0.00 "
        "to 1.00); of the same seed it ends 3.50 higher on average (2 pairs, 95 % interval 2.00 "
        "to 5.00"
    )


def test_an_interval_is_turned_round_with_its_probability(build_arm):
    words = said(build_arm("a", Catch=(3.0, 9, 10)), build_arm("b", Catch=(1.0, 4, 5)))
    # b beats a twice in nine (by 4 and 5 against 3), and in some resamples never.
    assert re.search(r"probability 0\.78, .* \(95 % interval 0\.[1-9]\d to 1\.00\)", words[1])


def test_a_leader_may_be_lower_on_the_seeds_in_common(build_arm, build_run):
    # b leads by its seed 3; of seed 1 alone it is lower.
    first = build_arm("a", Catch=(3.0,))
    runs = (build_run(returns=(2.0,), env="Catch"), build_run(returns=(8.0,), seed=3, env="Catch"))
    words = said(first, replace(first, name="b", runs={"Catch": runs}))
    assert "'b' ends above 'a' with probability 0.50" in words[1]
    assert "of the same seed it ends 1.00 lower on average (1 pair" in words[1]


def test_arms_without_a_common_seed_are_said_to_have_none(build_arm, build_run):
    first = build_arm("a", Catch=(1.0,))
    second = replace(first, name="b", runs={"Catch": (build_run(seed=9, env="Catch"),)})
    assert "they have no seeds in common" in " ".join(said(first, second))


def test_games_of_one_unit_are_judged_together(build_arm):
    finals = {"Breakout": (1.0, 2.0), "Pong": (3.0, 4.0)}
    words = said(build_arm("a", **finals), build_arm("b", **finals))
    assert words[1].startswith("On all games, ")
    assert not any("On Breakout" in sentence for sentence in words)


def test_what_is_final_is_said_first(build_arm):
    arm = build_arm("a", Catch=(1.0, 2))
    assert "the last tenth of a run's steps" in said(arm)[0]
    evaluation = {"mean": 3.0, "episodes": 7, "trained_steps": 100}
    assert (
        "the mean of evaluation.json, 7 episodes" in said(with_runs(arm, evaluation=evaluation))[0]
    )


@pytest.mark.parametrize(
    ("finals", "warned"), [((1.0,), False), ((1.0, 2), True), ((1.0, 2, 3, 4, 5), False)]
)
def test_intervals_from_few_runs_are_warned_of(finals, warned, build_arm):
    words = said(build_arm("a", Catch=finals))
    assert any("too narrow" in sentence for sentence in words) == warned


def test_a_missing_interval_is_explained(build_arm):
    assert any("is no interval" in sentence for sentence in said(build_arm("a", Catch=(1.0,))))
    assert not any(
        "is no interval" in sentence for sentence in said(build_arm("a", Catch=(1.0, 2)))
    )


def test_an_average_over_games_says_what_it_is_worth(build_arm):
    raw = build_arm("a", Catch=(1.0, 2), **{"CartPole-v1": (1.0, 2)})
    assert any("average raw scores" in sentence for sentence in said(raw))
    mixed = build_arm("a", Catch=(1.0, 2), Breakout=(1.0, 2))
    assert any("there is no average over games" in sentence for sentence in said(mixed))
    human = build_arm("a", Pong=(1.0, 2), Breakout=(1.0, 2))
    assert not any("average" in sentence for sentence in said(human))


def test_runs_that_do_not_compare_are_warned_of(build_arm, build_run):
    arm = build_arm("a", Catch=(1.0, 2))
    assert not any("commit" in sentence or "protocol" in sentence for sentence in said(arm))
    short = with_runs(arm, config=build_run("--discount 0.5").config)
    first, second = arm.runs["Catch"]
    dirty = replace(second, about={**second.about, "commit": "bad (dirty)", "protocol": "machado"})
    words = " ".join(said(replace(arm, runs={"Catch": (first, dirty)})))
    assert "come from 2 commits" in words
    assert "uncommitted changes" in words
    assert "several protocols (baselines, machado)" in words
    longer = {**first.config, "run": {**first.config["run"], "steps": 200}}
    words = " ".join(said(with_runs(arm, config=longer)))
    assert f"Not trained to the end: {first.path.stem}, {second.path.stem}." in words
    assert short
