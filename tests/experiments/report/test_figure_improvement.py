"""What is drawn of the final scores, read back from the figure."""

import pytest

from experiments.figures import colour
from experiments.report.figures import draw_improvement
from experiments.report.scores import compare, summarise
from experiments.report.tables import Report


def drawn(*arms):
    return draw_improvement(Report(arms, summarise(arms), compare(arms))).axes


def points(axes):
    """The estimates: place, value, and whether they are hollow."""
    return [
        (line.get_ydata()[0], line.get_xdata()[0], line.get_markerfacecolor() == "white")
        for line in axes.lines
        if line.get_marker() == "o"
    ]


def test_every_arm_has_its_estimate_and_its_runs(build_arm):
    left, right = drawn(build_arm("a", Catch=(1.0, 2, 6)), build_arm("b", Catch=(4.0,)))
    # Means of 1, 2, 6 and of 4; a single run has no interval.
    assert points(left) == [(0, 3, False), (1, 4, True)]
    dots = [list(line.get_xdata()) for line in left.lines if line.get_marker() == "."]
    assert dots == [[1, 2, 6], [4]]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]
    assert left.get_yticklabels()[1].get_color() == colour(1)
    # 4 beats 1 and 2, not 6.
    assert points(right) == [(1, pytest.approx(2 / 3), True)]
    assert right.get_title() == "probability of ending above\na"


def test_an_interval_is_a_bar_of_its_width(build_arm):
    left, right = drawn(build_arm("a", Catch=(1.0, 3)), build_arm("b", Catch=(2.0, 4)))
    bars = [list(line.get_xdata()) for line in left.lines if line.get_linewidth() == 5]
    # The interval of two runs is their range.
    assert bars == [[1, 3], [2, 4]]
    assert len([line for line in right.lines if line.get_linewidth() == 5]) == 1


def test_each_game_and_all_together_have_their_row(build_arm):
    finals = {"Breakout": (1.7, 2.0), "Pong": (3.0, 4.0)}
    axes = drawn(build_arm("a", **finals), build_arm("b", **finals))
    assert [panel.get_title() for panel in axes[::2]] == [
        "Breakout: final return",
        "Pong: final return",
        "all games: final return",
    ]
    # A game in its own unit, all of them in one that they share.
    assert "(score)" in axes[0].get_xlabel()
    assert "(human-normalised)" in axes[4].get_xlabel()
