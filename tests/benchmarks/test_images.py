"""Games as the peers see them: envpool's by a pool that counts, Stable-Baselines3's by itself."""

import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from benchmarks import images

B = 3
DISCOUNT = 0.5


class Pool:
    """Levels of 2, 3 and 4 steps; a picture says how many steps its level has had."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 2, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(15)

    def __init__(self, task, **options):
        self.task, self.options, self.made = task, options, np.zeros(B, int)
        self.resets, self.reward = [], np.array([1000.0, 2.0, 0.0], np.float32)

    def _pictures(self):
        return np.broadcast_to(self.made[:, None, None, None], (B, 2, 2, 3)).astype(np.uint8)

    def reset(self, which=None):
        which = np.arange(B) if which is None else which
        self.resets.append(which.tolist())
        self.made[which] = 0
        return self._pictures()[which], {}

    def step(self, action):
        self.made += 1
        over = self.made == np.arange(B) + 2
        # The second ends by its time limit.
        cut = over & (np.arange(B) == 1)
        return self._pictures(), self.reward, over & ~cut, cut, {}

    def close(self):
        pass


@pytest.fixture
def games(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", SimpleNamespace(make=Pool))
    return images.Procgen(
        seed=7,
        gamma=DISCOUNT,
        num_envs=B,
        env_name="bigfish",
        num_levels=0,
        start_level=0,
        distribution_mode="easy",
    )


def test_a_level_that_ends_is_followed_by_the_next_in_the_same_step(games):
    assert games._pool.task == "BigfishEasy-v0"
    assert games._pool.options["num_threads"] == 1
    assert games.reset().shape == (B, 2, 2, 3)
    seen, dones, scores = [], [], []
    for _ in range(4):
        observation, _, done, ended = games.step(np.zeros(B, int))
        seen.append(observation[:, 0, 0, 0].tolist())
        dones.append(done.tolist())
        scores.append([(item["episode"]["r"], item["episode"]["l"]) for item in ended])
    assert games._pool.resets == [[0, 1, 2], [0], [1], [0, 2]]
    assert seen == [[1, 1, 1], [0, 2, 2], [1, 0, 3], [0, 1, 0]]
    assert dones == [[False] * 3, [True, False, False], [False, True, False], [True, False, True]]
    # Raw, over the whole level.
    assert scores == [[], [(2000, 2)], [(6, 3)], [(2000, 2), (0, 4)]]


def test_rewards_are_divided_by_the_spread_of_the_discounted_return(games):
    games.reset()
    history = []
    discounted = np.zeros(B)
    for _ in range(4):
        _, reward, done, _ = games.step(np.zeros(B, int))
        discounted = discounted * DISCOUNT + np.array([1000.0, 2.0, 0.0])
        history.append(discounted)
        # All returns so far, equally; gym's statistics begin with a ten-thousandth of a sample.
        assert reward == pytest.approx(np.array([1000.0, 2.0, 0.0]) / np.std(history), rel=1e-3)
        discounted = np.where(done, 0, discounted)


def test_a_reward_far_above_the_spread_counts_ten(games):
    games.reset()
    games._pool.reward = np.zeros(B)
    for _ in range(60):
        games.step(np.zeros(B, int))
    games._pool.reward = np.array([1.0, 0.0, -1.0])
    # One and minus one among 183 returns have a spread of about sqrt(2 / 183) = 0.105.
    assert games.step(np.zeros(B, int))[1] == pytest.approx([9.57, 0, -9.57], rel=0.01)
    games._pool.reward = np.array([0.0, 5.0, -50.0])
    assert games.step(np.zeros(B, int))[1].tolist()[2] == -10


def test_a_callback_tells_whole_games_by_the_steps_of_all_environments():
    told = []
    after_step = images.callback(lambda *given: told.append(given))
    infos = [{"lives": 3}, {"lives": 0, "episode": {"r": 21.0, "l": 9_000}}]
    assert after_step({"self": SimpleNamespace(num_timesteps=64), "infos": infos}, {})
    assert told == [(64, 21.0)]


def test_stable_baselines_sees_four_stacked_frames():
    for package in ("stable_baselines3", "ale_py", "cv2"):
        pytest.importorskip(package)
    env = images.atari("Breakout", 2, seed=1)
    assert env.reset().shape == (2, 4, 84, 84)
    env.close()
