import numpy as np
import pytest
import torch

from agents.gates import make
from examples.images import Images
from examples.lessons import pairs, split
from examples.parts import Part, compare


@pytest.fixture
def part():
    """Three tasks, two seeds and four points; the second and the third task are of one kind."""
    accuracy = np.array([[0.5, 0.7], [0.6, 0.6], [0.2, 0.4]])
    cosine = np.arange(24.0).reshape(3, 2, 4)
    return Part(
        "pairs",
        ("1 and 1", "1 and 8", "3 and 9"),
        {"same": slice(1), "other": slice(1, 3)},
        {"main only": accuracy, "sum": accuracy + np.array([[0.1], [0.2], [0.4]])},
        {"main only": np.full((3, 2, 4), np.nan), "sum": cosine},
    )


def test_a_gain_is_over_main_only_learning_in_the_mean_over_a_kind(part):
    assert part.gain("sum", "same") == pytest.approx([0.1, 0.1])
    assert part.gain("sum", "other") == pytest.approx([0.3, 0.3])


def test_an_angle_is_the_mean_over_learning_and_over_a_kind(part):
    # Seed 0 of the second task has 8 .. 11, of the third 16 .. 19; seed 1 four more.
    assert part.angle("sum", "other").tolist() == [13.5, 17.5]


def test_a_row_is_a_gate_a_task_and_a_seed(part):
    rows = part.rows()
    assert len(rows) == 2 * 3 * 2
    assert rows[-1] == {
        "part": "pairs",
        "gate": "sum",
        "auxiliary": "3 and 9",
        "seed": 1,
        "accuracy": "0.8000",
        "cosine": "21.5000",
    }


def test_a_table_is_read_back(part):
    table = [{name: str(value) for name, value in row.items()} for row in part.rows()]
    other = [{**row, "part": "rotation"} for row in table]
    found = Part.read("pairs", part.kinds, other + table)
    assert list(found.tasks) == list(part.tasks)
    for kind in part.kinds:
        np.testing.assert_allclose(found.gain("sum", kind), part.gain("sum", kind), atol=1e-4)
        np.testing.assert_allclose(found.angle("sum", kind), part.angle("sum", kind))


def test_figures_go_by_kind(part):
    axes = part.figure("classes").axes
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["same", "other"]
    assert axes[0].lines[0].get_ydata() == pytest.approx([0.1, 0.3])
    [line] = part.curves("sum", ["other"], steps=8)
    assert line.name == "pairs: other"
    assert line.place == [1.0, 3.0, 5.0, 7.0]
    assert line.values[0].tolist() == [12.0, 13.0, 14.0, 15.0]


def test_all_gates_are_compared_on_the_same_lessons():
    images = Images(torch.rand(40, 2, 2), torch.arange(40) % 10)
    lessons = pairs(images, split(images, 2, 10, 20), [(0, 1), (2, 3), (4, 5)])
    kinds = {"all": slice(3)}
    makers = {"main only": None, "sum": lambda: make("sum")}
    part = compare("pairs", ("a", "b", "c"), kinds, lessons, makers, steps=10)
    assert part.accuracy["sum"].shape == (3, 2)
    assert part.cosine["sum"].shape == (3, 2, 10)
    assert np.isnan(part.cosine["main only"]).all()
