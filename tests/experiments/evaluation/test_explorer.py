import csv

import pytest
import torch

from experiments.evaluation.explorer import UNSEEN, Explorer, main, play
from gridworld import WALL, WorldConfig, parse

CORRIDOR = """
###########
#B...S...A#
###########
"""
"""10 to the right, 5 to the left; none of them is seen from the start."""


@pytest.fixture
def corridor():
    """Many copies of a world without noise, in which hardly an episode ends by chance."""

    def corridor(radius=1, copies=50):
        config = WorldConfig(
            height=3, width=11, view_radius=radius, action_noise=0.0, termination_probability=1e-3
        )
        return parse(config, [CORRIDOR.strip()]).select(torch.zeros(copies, dtype=torch.int64))

    return corridor


def test_the_map_holds_what_was_seen_and_nothing_else(corridor):
    worlds = corridor(copies=2)
    explorer = Explorer(worlds, 4.0, 0.0)
    # The border is known from the beginning; the nine cells between are not.
    assert (explorer.map == UNSEEN).sum(1).tolist() == [9, 9]
    explorer.look(worlds.start)
    known = explorer.map != UNSEEN
    assert torch.equal(explorer.map[known], worlds.kind[known])
    # The start is the sixth column (5) of the second row of 11: 16 and its neighbours.
    assert (~known[0]).nonzero().flatten().tolist() == [12, 13, 14, 18, 19, 20]


def test_what_lies_outside_of_the_world_is_not_written_into_the_map(corridor):
    worlds = corridor(radius=7, copies=1)
    explorer = Explorer(worlds, 4.0, 0.0)
    explorer.look(worlds.start)
    assert torch.equal(explorer.map, worlds.kind)
    assert (worlds.kind[0, [0, 10, 22, 32]] == WALL).all()


def rewards(result):
    """Which returns there are, those of episodes that ended by chance left out."""
    return set(result.returns.tolist()) - {0.0}


def test_who_sees_everything_goes_straight_to_the_best(corridor):
    result = play(corridor(radius=5), hope=4.0, curiosity=0.0, seed=0)
    assert rewards(result) == {10.0}
    # Four steps to the right.
    assert result.lengths.max() == 4


def test_who_hopes_for_little_takes_what_is_found_first(corridor):
    result = play(corridor(), hope=4.0, curiosity=0.0, seed=0)
    assert rewards(result) == {5.0, 10.0}


def test_who_hopes_for_more_turns_back_and_remembers_what_was_seen(corridor):
    result = play(corridor(), hope=6.0, curiosity=0.0, seed=0)
    assert rewards(result) == {10.0}
    # Straight to the right (4), or to within sight of the 5 (3 to the left), back and on (3 + 4).
    assert set(result.lengths[result.returns == 10].tolist()) == {4, 10}


def test_penalties_are_avoided():
    config = WorldConfig(
        height=4, width=5, view_radius=2, action_noise=0.0, termination_probability=1e-3
    )
    # Two steps over the penalty for 10 - 1, or four around it.
    worlds = parse(config, ["#####\n#S-A#\n#...#\n#####"]).select(torch.zeros(9, dtype=torch.int64))
    result = play(worlds, hope=0.0, curiosity=0.0, seed=0)
    assert rewards(result) == {10.0}
    assert result.lengths.max() == 4


def test_the_table_has_a_line_for_each_planner_and_says_what_could_be_scored(tmp_path):
    file = tmp_path / "table.csv"
    words = "--view-radius 1 2 --hope 4 --curiosity 0 0.2 --worlds 3 --output"
    assert main([*words.split(), str(file)]) == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    found = [(row["view_radius"], row["hope"], row["curiosity"]) for row in rows]
    assert found == [("1", "4", "0"), ("1", "4", "0.2"), ("2", "4", "0"), ("2", "4", "0.2")]
    for row in rows:
        assert float(row["optimum"]) > 0
        fraction = float(row["return"]) / float(row["optimum"])
        assert float(row["fraction"]) == pytest.approx(fraction, abs=1e-3)
