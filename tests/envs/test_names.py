from dataclasses import dataclass, field

import pytest

from envs.names import canonical, departures, nearest


@dataclass(frozen=True)
class _Options:
    height: int = 3
    sticky: float = 0.0
    threads: int = field(default=0, compare=False)


@pytest.mark.parametrize("typed", ["breakout", "Breakout", "BREAKOUT"])
def test_a_name_is_found_whatever_its_case(typed):
    assert canonical(typed, ["Pong", "Breakout"]) == "Breakout"


def test_of_names_that_differ_in_case_the_exact_one_is_found_and_no_other():
    names = ["Toy-v0", "toy-v0", "Other"]
    assert [canonical(name, names) for name in names] == names
    with pytest.raises(ValueError, match="'TOY-v0' may be Toy-v0 or toy-v0"):
        canonical("TOY-v0", names)


def test_an_unknown_name_is_not_found():
    assert canonical("Break", ["Pong", "Breakout"]) is None


def test_the_likest_names_come_first():
    assert nearest("breakot", ["Pong", "Berzerk", "Breakout"], count=2) == ["Breakout", "Berzerk"]


def test_of_two_versions_alike_the_later_comes_first():
    assert nearest("CartPole", ["CartPole-v0", "CartPole-v1"]) == ["CartPole-v1", "CartPole-v0"]


def test_default_options_are_no_departure():
    assert departures(_Options()) == ""


def test_every_option_that_departs_is_named_with_its_value():
    assert departures(_Options(height=4, sticky=0.25)) == "+height=4+sticky=0.25"


def test_options_depart_from_others_than_the_defaults_where_those_are_usual():
    usual = _Options(height=4, sticky=0.25)
    assert departures(usual, usual) == ""
    assert departures(_Options(), usual) == "+height=3+sticky=0.0"
    assert departures(_Options(height=4, threads=8), usual) == "+sticky=0.0"


def test_an_option_that_changes_no_score_is_no_departure():
    assert departures(_Options(threads=8)) == ""
