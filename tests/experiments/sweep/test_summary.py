import json

import pytest

from experiments.sweep.arms import MAIN, SweepArm, Teaching
from experiments.sweep.summary import Summary, summarise

COLD = Teaching("cross", 0.0)


def final(arm):
    return {MAIN: 9.0, "sum": 4.0, "cosine": 8.0}[arm.gate]


def test_every_arm_is_scored_by_its_end_and_its_mean(build_results):
    summary = summarise(build_results(final, noise=0.0))
    score = summary.of("cosine", COLD)
    assert score.final.value == pytest.approx(8.0)
    # The curve rises evenly for half of the time: 8 * (1 - 1 / 4), nearly: no point lies at half.
    assert score.area.value == pytest.approx(6.0, abs=0.01)
    assert (score.cosine, score.weight) == (0.25, 0.5)
    assert summary.scores[0].arm == SweepArm(MAIN, None)


def test_a_summary_is_read_back_as_it_was_written(build_results):
    summary = summarise(build_results(final))
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_arms_are_compared_with_main_only_and_with_sum_under_the_same_teacher(build_results):
    def colder_is_worse(arm):
        warmth = 0.0 if arm.teaching is None else arm.teaching.temperature
        return final(arm) + (warmth if arm.gate == "sum" else 0)

    summary = summarise(build_results(colder_is_worse, noise=0.0))
    for temperature in (0.0, 1.0):
        score = summary.of("cosine", Teaching("same", temperature))
        assert score.final_against_main.value == pytest.approx(8 - 9)
        assert score.final_against_sum.value == pytest.approx(8 - (4 + temperature))
        assert score.area_against_main.value == pytest.approx(0.75 * (8 - 9), abs=0.01)
        assert score.area_against_sum.value == pytest.approx(
            0.75 * (8 - (4 + temperature)), abs=0.01
        )


def test_nothing_is_compared_with_itself(build_results):
    summary = summarise(build_results(final))
    alone, plain = summary.of(MAIN, None), summary.of("sum", COLD)
    assert alone.final_against_main is None
    assert alone.final_against_sum is None
    assert alone.cosine is None
    assert plain.final_against_main is not None
    assert plain.final_against_sum is None


def test_without_sum_nothing_is_compared_with_it(build_results):
    summary = summarise(build_results(final, gates=("cosine",)))
    assert summary.of("cosine", COLD).final_against_sum is None


def test_main_only_is_placed_between_random_and_optimum(build_results):
    # From 0 to 10, it ends at 9; since half of the time it rests.
    summary = summarise(build_results(final, noise=0.0))
    assert summary.share_of_optimum == pytest.approx(0.9)
    assert summary.drift == pytest.approx(0)


def test_the_drift_is_what_the_last_tenth_still_adds(build_results):
    results = build_results(final, noise=0.0)
    results.expected_return[-1] += 1
    # From 9 after 361 updates to 10 after 400: after 360, nine tenths, it is at 9.
    assert summarise(results).drift == pytest.approx(1 / 10)


def test_the_summary_is_plain_json(build_results):
    content = json.loads(json.dumps(summarise(build_results(final)).to_json()))
    assert len(content["arms"]) == 9
    assert content["arms"][1]["arm"] == {
        "gate": "sum",
        "teaching": {"setting": "cross", "temperature": 0.0},
    }
    assert content["teachers"][3]["mean"] == 3.0
    assert (content["cells"], content["aliased_cells"]) == (9.0, 4.0)
