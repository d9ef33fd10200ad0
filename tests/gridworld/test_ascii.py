"""Worlds written and read back."""

import pytest
import torch

from gridworld import LAYOUTS, WorldConfig, parse, text

CONFIG = WorldConfig(height=4, width=6, terminal_rewards=(10.0, 5.0, -2.5))
PICTURE = """
    ######
    #S.-A#
    #.#BC#
    ######
"""


def test_a_picture_by_hand():
    worlds = parse(CONFIG, [PICTURE])
    assert worlds.kind.view(4, 6).tolist() == [
        [1, 1, 1, 1, 1, 1],
        [1, 0, 0, 2, 3, 1],
        [1, 0, 1, 4, 5, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    assert worlds.start.tolist() == [7]
    assert worlds.reward[0, [9, 10, 15, 16]].tolist() == [-1.0, 10.0, 5.0, -2.5]
    legend = "- -1, A +10, B +5, C -2.5"
    assert text(worlds, 0) == f"######\n#S.-A#\n#.#BC#\n######\n{legend}"


def test_the_agent_and_the_policy_are_marked():
    worlds = parse(CONFIG, [PICTURE])
    policy = torch.zeros(24, 4)
    for cell, action in [(7, 1), (8, 2), (9, 3), (13, 0)]:
        policy[cell, action] = 1.0
    assert text(worlds, 0, cell=13).splitlines()[1:3] == ["#S.-A#", "#@#BC#"]
    assert text(worlds, 0, policy=policy).splitlines()[1:3] == ["#>v<A#", "#^#BC#"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back(build_worlds, layout):
    worlds = build_worlds(4, layout=layout, height=7, width=9, start="random")
    again = parse(worlds.config, [text(worlds, number) for number in range(4)])
    for name in ("kind", "start", "move", "window", "observation", "reward"):
        assert torch.equal(getattr(again, name), getattr(worlds, name))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("######\n#S..A#\n######", "must have 4 rows of 6 cells"),
        (PICTURE.replace("#S.-A#", "#S.A#"), "must have 4 rows of 6 cells"),
        (PICTURE.replace("B", "x"), r"may consist of .* not \['x'\]"),
        (PICTURE.replace("#S.-A#", ".S.-A#"), "must have walls"),
        (PICTURE.replace("S", "."), "must have one start"),
        (PICTURE.replace("B", "S"), "must have one start"),
    ],
)
def test_pictures_that_are_no_worlds_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        parse(CONFIG, [picture])
