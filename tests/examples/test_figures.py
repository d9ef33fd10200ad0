import numpy as np
import pytest

from examples.figures import Landscape, Line, draw_lines, draw_paths


@pytest.fixture
def path():
    """N = 4 points from S = 3 starts in the plane."""
    return np.random.default_rng(0).uniform(-1, 1, (4, 3, 2))


def test_every_gate_has_a_panel(path):
    grid = np.linspace(-1, 1, 5)
    ground = Landscape(1.0, np.add.outer(grid**2, grid**2), np.outer(grid, grid))
    paths = {f"gate {number}": path for number in range(7)}
    figure = draw_paths("title", paths, (0.5, 0.0), ground)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(paths)
    # Three paths, their ends, and the goal.
    first, *_, ends, goal = shown[0].lines
    assert len(shown[0].lines) == 3 + 2
    np.testing.assert_array_equal(first.get_xydata(), path[:, 0])
    np.testing.assert_array_equal(ends.get_xydata(), path[-1])
    assert goal.get_xydata().tolist() == [[0.5, 0.0]]
    assert shown[0].get_xlim() == (-1, 1)


def test_paths_on_a_line_are_drawn_by_step(path):
    figure = draw_paths("title", {"sum": path[..., :1]}, (10.0,), None)
    lines = figure.axes[0].lines
    np.testing.assert_array_equal(lines[1].get_xydata()[:, 1], path[:, 1, 0])
    assert lines[-1].get_ydata() == [10.0, 10.0]


def test_a_line_is_the_mean_and_looks_the_same_in_all_panels():
    values = np.array([[0.0, 1.0], [2.0, 5.0], [1.0, 0.0]])
    first, second = Line("a", [1, 10], values), Line("b", [1, 10], -values)
    figure = draw_lines("title", {"left": [first, second], "right": [second]}, "x", "y", True)
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1, 1], [10, 2]]
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()
    assert left.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_places_may_have_names():
    figure = draw_lines(
        "title", {"panel": [Line("a", [0, 1], np.ones((2, 2)))]}, "x", ticks=["near", "far"]
    )
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["near", "far"]
