"""Labels never overlap, stay inside, and move no farther than they must."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.report.figures import spread, wrap

LABELS = st.lists(st.tuples(st.floats(0, 100), st.floats(1, 5)), min_size=1, max_size=8)


@given(labels=LABELS)
@settings(deadline=None, max_examples=50)
def test_labels_stay_in_order_inside_and_apart(labels):
    wanted = sorted(place for place, _ in labels)
    heights = [height for _, height in labels]
    # Eight labels of height 5 have room.
    places = spread(wanted, heights, 0.0, 100.0)
    margin = 1e-9
    assert places[0] - heights[0] / 2 >= -margin
    assert places[-1] + heights[-1] / 2 <= 100 + margin
    for index in range(len(places) - 1):
        gap = (heights[index] + heights[index + 1]) / 2
        assert places[index + 1] - places[index] >= gap - margin


def test_labels_with_room_stay_where_they_are():
    assert spread([10.0, 20.0, 50.0], [4.0, 4.0, 4.0], 0.0, 100.0) == pytest.approx([10, 20, 50])


def test_two_labels_at_one_place_move_as_far_each():
    assert spread([50.0, 50.0], [4.0, 4.0], 0.0, 100.0) == pytest.approx([48, 52])


def test_a_label_at_the_edge_is_pulled_inside_and_pushes_its_neighbour():
    assert spread([97.0, 100.0], [4.0, 4.0], 0.0, 100.0) == pytest.approx([94, 98])
    assert spread([0.0, 1.0], [4.0, 4.0], 0.0, 100.0) == pytest.approx([2, 6])


def test_a_name_is_broken_at_its_commas():
    assert wrap("distill, sum, no main loss") == "distill, sum,\nno main loss"
    assert wrap("main only") == "main only"
