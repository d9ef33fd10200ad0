import pytest

from experiments.sweep.arms import MAIN
from experiments.sweep.summary import summarise, verdicts

PAPER = {
    # Final returns by gate: cold and warm misleading, cold and warm perfect.
    "sum": {("cross", 0.0): 4, ("cross", 1.0): 6, ("same", 0.0): 10, ("same", 1.0): 9},
    "cosine": {("cross", 0.0): 9, ("cross", 1.0): 9, ("same", 0.0): 9.5, ("same", 1.0): 9},
}


def judge(build_results, main=9.0, table=PAPER, **options):
    def final(arm):
        if arm.gate == MAIN:
            return main
        return table[arm.gate][arm.teaching.setting, arm.teaching.temperature]

    results = build_results(final, **options)
    return {verdict.claim: verdict for verdict in verdicts(results.config, summarise(results))}


def outcomes(found):
    return {claim: verdict.outcome for claim, verdict in found.items()}


def changed(gate, key, value):
    return PAPER | {gate: PAPER[gate] | {key: value}}


BUDGET = "Main-only learning has time enough"
HARM = "A cold misleading teacher pulls sum below main-only"
HELP = "cosine keeps a cold misleading teacher from doing so"
COST = "cosine costs something where the teacher is perfect"
WARM_SUM = "A warmer misleading teacher does less harm to sum"
WARM_COSINE = "A warmer misleading teacher does less harm to cosine"


def test_what_the_paper_claims_is_found_where_it_is(build_results):
    assert outcomes(judge(build_results)) == {
        BUDGET: "shown",
        HARM: "shown",
        HELP: "shown",
        COST: "shown",
        WARM_SUM: "shown",
        WARM_COSINE: "not shown",
    }


@pytest.mark.parametrize(
    ("gate", "key", "value", "claim", "outcome"),
    [
        ("sum", ("cross", 0.0), 9, HARM, "not shown"),
        ("sum", ("cross", 0.0), 9.5, HARM, "reversed"),
        ("cosine", ("cross", 0.0), 9.5, HELP, "shown"),
        ("cosine", ("cross", 0.0), 6, HELP, "shown in part (above sum, below main-only)"),
        ("cosine", ("cross", 0.0), 4, HELP, "not shown"),
        ("cosine", ("same", 0.0), 10, COST, "not shown"),
        ("cosine", ("same", 0.0), 10.5, COST, "reversed"),
        ("sum", ("cross", 1.0), 4, WARM_SUM, "not shown"),
        ("sum", ("cross", 1.0), 2, WARM_SUM, "reversed"),
    ],
)
def test_what_is_not_there_is_not_claimed(build_results, gate, key, value, claim, outcome):
    found = outcomes(judge(build_results, table=changed(gate, key, value)))
    assert found[claim] == outcome


def test_main_only_learning_that_came_less_far_has_had_too_little_time(build_results):
    assert outcomes(judge(build_results, main=8.0))[BUDGET] == "not shown"


def test_what_was_not_swept_is_not_tested(build_results):
    only_same = outcomes(judge(build_results, settings=("same",)))
    assert only_same[HARM] == only_same[HELP] == only_same[WARM_SUM] == "not tested"
    only_cross = outcomes(judge(build_results, settings=("cross",)))
    assert only_cross[COST] == "not tested"
    no_sum = outcomes(judge(build_results, gates=("cosine",)))
    assert no_sum[HARM] == no_sum[COST] == "not tested"
    assert no_sum[HELP] == "shown"
    one = outcomes(judge(build_results, temperatures=(0.0,)))
    assert one[WARM_SUM] == "not tested"


def test_a_verdict_comes_with_its_numbers(build_results):
    found = judge(build_results, noise=1e-4)
    text = str(found[HARM])
    assert text.startswith(f"{HARM}: shown. With setting cross at temperature 0, sum ends at 4.00")
    assert "main-only at 9.00, -5.00 (95 % -5.00 to -5.00, corrected p = " in text
    assert "90% of the way" in str(found[BUDGET])
    assert "0: -5.00, 1: -3.00" in str(found[WARM_SUM])
    # Random is 0 and the optimum 10.
    assert "margin 0.20; against sum +5.00" in str(found[HELP])


@pytest.mark.parametrize(
    ("final", "noise", "outcome"),
    [
        # Noise of 0.1 in 20 worlds: intervals of about 0.06 to either side; the margin is 0.2.
        (8.9, 0.1, "shown"),
        (8.7, 0.1, "shown in part (above sum, below main-only)"),
        # Noise of 2: the interval holds 0 and reaches far below the margin.
        (9.0, 2.0, "open"),
    ],
)
def test_no_harm_is_shown_only_where_the_interval_lies_above_the_margin(
    build_results, final, noise, outcome
):
    table = changed("cosine", ("cross", 0.0), final)
    found = judge(build_results, table=table, noise=noise)
    assert outcomes(found)[HELP] == outcome


def test_p_values_are_corrected_for_the_number_of_tests(build_results):
    found = judge(build_results, noise=1e-4)
    # Six tests: two against main-only, one against sum, one of cost, two of warmth.
    # With 20 worlds none is below 1 / (1 + 2^14), and the least of m is multiplied by m.
    least = 1 / (1 + 2**14)
    said = float(str(found[HARM]).partition("corrected p = ")[2].partition(")")[0])
    assert said == pytest.approx(6 * least, rel=0.05)
