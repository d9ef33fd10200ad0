import pytest

from experiments.sweep.figures import BETTER, SAME, WORSE
from experiments.sweep.figures import draw_finals as draw


def final(arm):
    """Main-only 5; `sum` 2 below or 1 above with the temperature, `cosine` as main-only."""
    if arm.teaching is None or arm.gate == "cosine":
        return 5.0
    return 3.0 if arm.teaching.temperature == 0 else 6.0


def test_each_teacher_has_a_panel_and_the_safest_gate_is_at_the_top(build_results, tables_of):
    figure = draw(tables_of(build_results(final)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        f"teacher of {world} world\ntemperature {temperature}"
        for world in ("another", "its own")
        for temperature in (0, 1)
    ]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    # From the bottom.
    assert labels == ["sum", "cosine"]


def test_points_are_differences_from_main_only_in_the_colour_of_what_they_show(
    build_results, tables_of
):
    figure = draw(tables_of(build_results(final)))
    # A vertical line, then a bar and a point for each gate.
    _, _, cold, _, gated = figure.axes[0].lines
    _, _, warm, _, _ = figure.axes[1].lines
    assert cold.get_xdata()[0] == pytest.approx(-2.0, abs=0.1)
    assert warm.get_xdata()[0] == pytest.approx(1.0, abs=0.1)
    assert gated.get_xdata()[0] == pytest.approx(0.0, abs=0.1)
    assert (cold.get_color(), warm.get_color(), gated.get_color()) == (WORSE, BETTER, SAME)
