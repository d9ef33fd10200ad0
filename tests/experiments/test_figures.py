"""Every gate looks the same in every figure."""

from dataclasses import fields

import pytest

from agents.gates import Gates
from experiments.figures import COLOURS, GATES, NO_GATE, colour, inks, score_text


def test_every_gate_has_an_ink_of_its_own():
    assert set(GATES) == {field.name for field in fields(Gates)}
    assert len({NO_GATE, *GATES.values()}) == len(GATES) + 1


@pytest.mark.parametrize("gates", [["main only", "cosine", "sum"], ["sum", "main-only"], ["sum"]])
def test_the_ink_of_a_gate_does_not_depend_on_its_company(gates):
    known = {**GATES, "main only": NO_GATE, "main-only": NO_GATE}
    assert inks(gates) == [known[gate] for gate in gates]


def test_a_gate_that_occurs_again_takes_a_colour_that_is_free():
    first, again, other = inks(["projection", "projection(decay=0.99)", "cosine"])
    assert (first, other) == (GATES["projection"], GATES["cosine"])
    assert again.colour not in {first.colour, other.colour, NO_GATE.colour}


def test_a_gate_that_nobody_knows_and_many_repeats_still_get_distinct_inks():
    found = inks(["main only"] * 9 + ["mine"])
    assert len(set(found)) == 10


def test_the_palette_starts_again_at_its_end():
    assert len(set(COLOURS)) == len(COLOURS)
    assert colour(len(COLOURS)) == colour(0)


@pytest.mark.parametrize(
    ("score", "text"),
    [(-8.47, "-8.47"), (50.87, "50.9"), (999.4, "999"), (999.6, "1,000"), (2297.01, "2,297")],
)
def test_a_score_needs_no_exponent(score, text):
    assert score_text(score) == text
