import numpy as np
import pytest
from matplotlib.image import imread

from experiments.studies.harm import ALONE
from experiments.studies.worth import POINTS, Outcome, draw, name, summary, verdicts

NAN = float("nan")


def outcome(head, gate, seed, final, whole):
    gated = gate == "cosine"
    curve = np.linspace(0, final, POINTS)
    curve[0] = NAN
    return Outcome(
        head, gate, seed, final, whole, 0.5 if gated else NAN, 0.25 if gated else NAN, 1.0, curve
    )


SEEDS = range(1, 8)
"""With two arms, 2 / 2^7 = 0.016 for seven of one sign, times two: below 0.05."""


@pytest.fixture
def outcomes():
    """A head that helps everywhere when added, and only in the end when gated."""
    runs = [outcome(ALONE, "", seed, float(seed), seed / 2) for seed in SEEDS]
    runs += [outcome("spr", "sum", seed, seed + 1.0, seed / 2 + 1) for seed in SEEDS]
    runs += [outcome("spr", "cosine", seed, seed + seed / 4, seed / 2) for seed in SEEDS]
    return runs


def test_an_arm_is_its_head_and_its_gate():
    assert (name("spr", "sum"), name(ALONE, "")) == ("spr, sum", ALONE)


def test_arms_are_compared_seed_by_seed_in_both_measures(outcomes):
    final, whole = (verdicts(outcomes, measure) for measure in ("final", "whole"))
    assert list(final) == [("spr", "sum"), ("spr", "cosine")]
    assert final["spr", "sum"].beside.difference == pytest.approx(1.0)
    # The mean of 1 / 4 to 7 / 4.
    assert final["spr", "cosine"].beside.difference == pytest.approx(1.0)
    assert final["spr", "cosine"].word == "helped"
    assert whole["spr", "cosine"].word == "open"


def test_what_lies_below_was_harmed(outcomes):
    worse = [
        outcome("spr", "sum", x.seed, x.final - 2, x.whole) if x.gate == "sum" else x
        for x in outcomes
    ]
    assert verdicts(worse, "final")["spr", "sum"].word == "harmed"


def test_few_seeds_give_no_verdict_however_far_apart(outcomes):
    few = [each for each in outcomes if each.seed <= 6]
    # 2 / 2^6 = 0.031 is below 0.05, but there are two arms.
    assert verdicts(few, "final")["spr", "sum"].p == pytest.approx(2 * 2 / 2**6)
    assert verdicts(few, "final")["spr", "sum"].word == "open"


def test_the_table_has_a_line_per_arm(outcomes):
    columns, alone, added, gated = summary(outcomes)
    assert columns.startswith("head,gate,seeds,final,final_difference,final_low,final_high,final_p")
    assert alone == f"{ALONE},,7,4.000,,,,,,2.000,,,,,,,"
    assert added == (
        "spr,sum,7,5.000,1.000,1.000,1.000,0.0312,helped,3.000,1.000,1.000,1.000,0.0312,helped,,"
    )
    assert gated.endswith(",2.000,0.000,0.000,0.000,1.0000,open,0.500,0.250")
    assert {line.count(",") for line in (columns, alone, added, gated)} == {16}


def test_a_missing_seed_is_refused(outcomes):
    with pytest.raises(ValueError, match="spr, cosine has other seeds than main only"):
        summary(outcomes[:-1])


def test_every_head_has_a_panel(outcomes, tmp_path):
    many = outcomes + [outcome(head, "sum", seed, 1.0, 0.5) for head in "abcd" for seed in SEEDS]
    draw(many, 1000, "title", tmp_path / "x.png")
    height, width, _ = imread(tmp_path / "x.png").shape
    # Two rows of four.
    assert 1.5 < width / height < 2.5
