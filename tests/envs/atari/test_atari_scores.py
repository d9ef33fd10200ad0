"""Reference scores: complete, of known games, and normalised as published."""

import pytest

from envs.atari.games import REFERENCES, STANDARD_GAMES, Reference


def test_every_standard_game_has_a_reference_and_no_other():
    assert set(REFERENCES) == set(STANDARD_GAMES)


def test_a_random_player_scores_zero_and_a_human_one():
    reference = Reference(random=2.0, human=10.0)
    assert reference.normalised(2.0) == 0.0
    assert reference.normalised(10.0) == 1.0
    # (6 - 2) / (10 - 2)
    assert reference.normalised(6.0) == 0.5


def test_breakout_is_normalised_as_published():
    # Random 1.7, human 30.5 (Wang et al. 2016): DQN's 401.2 is 1387 %.
    assert REFERENCES["Breakout"].normalised(401.2) == pytest.approx(13.87, abs=0.01)
