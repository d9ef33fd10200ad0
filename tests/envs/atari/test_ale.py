"""ale-py's own: lives and time limit, which are kept on this side of it."""

import numpy as np
import pytest
import torch

from envs.atari import ale as atari_ale
from envs.atari.ale import AleEmulators, games
from envs.atari.config import AtariConfig
from envs.atari.envpool import games as games_of_envpool

pytestmark = pytest.mark.atari

FIRE = 1  # in Breakout


def emulators(num_envs=1, game="Breakout", **options):
    return AleEmulators(AtariConfig(**options), game, list(range(num_envs)), num_threads=1)


class Scripted:
    """Plays by a script instead of a game: who has how many lives, and whose game is over."""

    def __init__(self, lives, over):
        self.lives, self.over = np.array(lives), np.array(over)  # [T, B] each
        self.time = -1
        self.sent, self.restarts = [], []

    def observation(self):
        return np.full((self.lives.shape[1], 4, 84, 84), self.time + 1, dtype=np.uint8)

    def reset(self, seed=None, options=None):
        if options is not None:
            self.restarts.append((self.time, options["reset_mask"].tolist()))
            self.lives[self.time, options["reset_mask"]] = 5
        return self.observation(), {"lives": self.lives[max(self.time, 0)].astype(np.int32)}

    def send(self, action):
        self.time += 1
        self.sent.append(action.tolist())

    def recv(self):
        info = {"lives": self.lives[self.time].astype(np.int32)}
        over = self.over[self.time].astype(bool)
        reward = np.full(over.shape, 10, dtype=np.int32)
        return self.observation(), reward, over, np.zeros_like(over), info


def outcomes(script, action, **options):
    """Plays the whole script with one action; a list over time of all flags and the reward."""
    played = emulators(script.lives.shape[1], **options)
    played._pool = script
    played.reset()
    results = []
    for _ in script.lives:
        played.send(np.full(script.lives.shape[1], action))
        results.append(played.receive())
    return results


def row(results, name):
    return [getattr(result, name).tolist() for result in results]


def test_a_lost_life_terminates_and_the_next_action_is_replaced_by_fire():
    lives = [[5, 5], [4, 5], [4, 5], [4, 5]]
    script = Scripted(lives, np.zeros((4, 2)))
    results = outcomes(script, action=2)
    assert row(results, "terminated") == [[False] * 2, [True, False], [False] * 2, [False] * 2]
    assert row(results, "valid") == [[True] * 2, [True] * 2, [False, True], [True] * 2]
    assert row(results, "reward") == [[10, 10], [10, 10], [0, 10], [10, 10]]
    assert not np.any(row(results, "ended"))
    assert script.sent == [[2, 2], [2, 2], [FIRE, 2], [2, 2]]
    assert script.restarts == []


def test_without_fire_reset_the_action_is_replaced_by_a_no_op():
    script = Scripted([[5], [4], [4]], np.zeros((3, 1)))
    outcomes(script, action=2, fire_reset=False)
    assert script.sent == [[2], [2], [0]]


def test_a_life_and_a_game_lost_in_a_discarded_step_are_not_told_and_the_game_restarts():
    # Environment 0 loses two lives in a row, environment 1 a life and then the game.
    lives = [[4, 1], [3, 0], [3, 5], [3, 5]]
    over = [[0, 0], [0, 1], [0, 0], [0, 0]]
    script = Scripted([[5, 2], *lives], [[0, 0], *over])
    results = outcomes(script, action=2)[1:]
    assert row(results, "terminated") == [[True, True], *[[False, False]] * 3]
    assert row(results, "valid") == [[True, True], [False, False], [True, True], [True, True]]
    assert not np.any(row(results, "ended"))
    assert script.restarts == [(2, [False, True])]


def test_a_finished_game_is_left_to_ale_which_restarts_it_by_itself():
    script = Scripted([[1], [0], [5], [5]], [[0], [1], [0], [0]])
    results = outcomes(script, action=2)
    assert (
        row(results, "terminated") == row(results, "ended") == [[False], [True], [False], [False]]
    )
    assert row(results, "valid") == [[True], [True], [False], [True]]
    assert script.restarts == []


def test_lives_that_come_back_with_a_new_game_are_no_loss_nor_are_more_lives():
    script = Scripted([[3], [4], [4]], np.zeros((3, 1)))
    assert not np.any(row(outcomes(script, action=2), "terminated"))


def test_the_last_life_is_lost_with_the_game_not_before():
    # Some games go on for a while with no life left.
    script = Scripted([[1], [0], [0], [0]], [[0], [0], [0], [1]])
    assert row(outcomes(script, 2), "terminated") == [[False], [False], [False], [True]]


def test_the_time_limit_counts_valid_steps_and_restarts_the_game():
    lives = [[5], [4], [4], [4], [5], [5]]
    script = Scripted(lives, np.zeros((6, 1)))
    results = outcomes(script, action=2, max_episode_steps=3)
    # Step 2 is the opening after the lost life, so step 3 is the third; step 4 restarts.
    assert row(results, "truncated") == [[t == 3] for t in range(6)]
    assert row(results, "ended") == row(results, "truncated")
    assert row(results, "valid") == [[t not in (2, 4)] for t in range(6)]
    assert script.restarts == [(4, [True])]
    assert results[4].reward.tolist() == [0]


def test_every_option_reaches_the_emulator():
    played = emulators(
        noop_max=1, frame_skip=3, frame_stack=2, full_action_space=True, fire_reset=False
    )
    assert (played.observation_shape, played.num_actions) == ((2, 84, 84), 18)
    _, info = played._pool.reset()
    assert info["episode_frame_number"].tolist() == [0]  # no no-ops, no FIRE
    info = played._pool.step(np.array([0]))[-1]
    assert info["episode_frame_number"].tolist() == [3]
    played.close()

    played = emulators(num_envs=6, noop_max=7)
    _, info = played._pool.reset()
    # FIRE, then fewer no-ops than seven but FIRE is one of them: one to six frames.
    opening = set(info["episode_frame_number"].tolist())
    assert opening <= set(range(1, 7))
    assert len(opening) > 1
    played.close()


def test_sticky_actions_reach_the_emulator():
    def newest(sticky_actions):
        played = emulators(num_envs=1, noop_max=1, sticky_actions=sticky_actions)
        played.reset()
        for action in (2, 2, 2, 3, 3):
            played.send(np.array([action]))
            outcome = played.receive()
        played.close()
        return outcome.observation[0, -1]

    # Obeyed in every frame or in one of ten, the paddle is elsewhere.
    assert not np.array_equal(newest(0.0), newest(0.9))


def test_both_backends_show_the_same_frames_and_pay_the_same_rewards(build_game):
    rules = {
        "num_envs": 1,
        "frame_skip": 1,
        "noop_max": 1,
        "fire_reset": False,
        "episodic_life": False,
    }
    ale = build_game("SpaceInvaders", backend="ale", **rules)
    envpool = build_game("SpaceInvaders", backend="envpool", **rules)
    ale.reset()
    # envpool opens with one no-op.
    first = ale.step(torch.zeros(1, dtype=torch.int64)).observation
    assert torch.equal(first[0, -1], envpool.reset()[0, -1])
    generator = torch.Generator().manual_seed(0)
    rewards = []
    for action in torch.randint(6, (300, 1), generator=generator):
        mine, theirs = ale.step(action), envpool.step(action)
        assert torch.equal(mine.observation[:, -1], theirs.observation[:, -1])
        assert torch.equal(mine.reward, theirs.reward)
        rewards.append(mine.reward.item())
    assert sum(rewards) > 0


def test_a_picture_is_the_newest_frame_in_grey(build_game):
    env = build_game(backend="ale", render=True)
    env.reset()
    observation = env.step(torch.tensor([1, 2, 3])).observation
    picture = env.render(1)
    assert picture.shape == (84, 84, 3)
    for channel in range(3):
        assert picture[..., channel].tolist() == observation[1, -1].tolist()


def test_the_games_are_those_of_envpool_by_the_same_names():
    assert set(games()) == set(games_of_envpool())
    assert {"MsPacman", "UpNDown", "Jamesbond", "MontezumaRevenge"} < set(games())


def test_an_older_version_is_refused_with_the_cure(monkeypatch):
    for version in ("0.12.0", "0.11.2", "0.9"):
        monkeypatch.setattr(atari_ale.metadata, "version", lambda package, found=version: found)
        with pytest.raises(ValueError, match=f"ale-py {version} .*: pip install 'ale-py>=0.12.1'"):
            emulators()
    for version in ("0.12.1", "0.12.2rc1", "0.13", "1.0.0"):
        monkeypatch.setattr(atari_ale.metadata, "version", lambda package, found=version: found)
        emulators().close()
