import numpy as np
import pytest

from experiments.report.estimates import Interval
from experiments.studies import harm
from experiments.studies.harm import ALONE, Result, Verdict, draw, judge, table

NAN = float("nan")


def results(arm, *finals):
    return [Result(arm, seed, final, -0.5, 0.25) for seed, final in enumerate(finals)]


def verdict_of(arm, verdicts):
    (found,) = (verdict for verdict in verdicts if verdict.arm == arm)
    return found


def test_an_arm_is_compared_with_the_one_without_a_head_seed_by_seed():
    verdicts = judge(
        [
            *results(ALONE, 0.5, 0.7, 0.9),
            # Differences -1.5, -1.6, -1.4: every resampled mean is below zero.
            *results("sum", -1.0, -0.9, -0.5),
            # 0.2, -0.1, 0: on either side.
            *results("cosine", 0.7, 0.6, 0.9),
            # 0.2, 0.1, 0.3.
            *results("nash", 0.7, 0.8, 1.2),
        ]
    )
    assert [verdict.arm for verdict in verdicts] == ["nash", "cosine", ALONE, "sum"]
    assert {verdict.arm: verdict.word for verdict in verdicts} == {
        "nash": "helped",
        "cosine": "unharmed",
        ALONE: "-",
        "sum": "harmed",
    }
    harmed = verdict_of("sum", verdicts)
    assert harmed.difference == pytest.approx(-1.5)
    # Three draws of the same seed come 1 time in 27, which is more than 2.5 %.
    assert (harmed.interval.low, harmed.interval.high) == pytest.approx((-1.6, -1.4))
    assert (harmed.cosine, harmed.passed) == (-0.5, 0.25)


def test_a_gate_that_was_closed_throughout_is_unharmed_for_certain():
    verdicts = judge([*results(ALONE, 0.5, 0.7), *results("cosine", 0.5, 0.7)])
    assert verdict_of(ALONE, verdicts).interval is None
    closed = verdict_of("cosine", verdicts)
    assert closed.interval == Interval(0.0, 0.0)
    assert closed.word == "unharmed"


def test_a_single_seed_tells_nothing():
    verdicts = judge([*results(ALONE, 0.5), *results("sum", -1.0)])
    assert verdict_of("sum", verdicts).word == "unknown"


def test_arms_with_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="sum has other seeds than main only"):
        judge([*results(ALONE, 0.5, 0.7), *results("sum", -1.0)])


def test_the_table_has_a_line_for_each_arm_and_blanks_where_nothing_was_measured():
    judged = [
        Verdict("sum", np.array([-0.9, -1.0]), -1.5, Interval(-1.6, -1.4), NAN, 1.0),
        Verdict(ALONE, np.array([0.5, 0.6]), 0.0, None, NAN, NAN),
    ]
    assert table(judged)[1:] == [
        "sum,2,-0.950,-1.500,-1.600,-1.400,harmed,,1.000",
        "main only,2,0.550,0.000,,,-,,",
    ]


def test_every_arm_is_drawn_with_its_verdict(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        harm.plt.Axes, "set_yticks", lambda self, places, labels: seen.extend(labels)
    )
    verdicts = [
        Verdict("cosine", np.array([0.5, 0.6]), 0.0, Interval(-0.1, 0.1), -1.0, 0.0),
        Verdict(ALONE, np.array([0.5, 0.6]), 0.0, None, NAN, NAN),
        Verdict("sum", np.array([-0.9, -1.0]), -1.5, Interval(-1.6, -1.4), NAN, 1.0),
    ]
    draw(verdicts, "a title", tmp_path / "probe.png")
    assert seen == ["sum: harmed", ALONE, "cosine: unharmed"]  # from below
