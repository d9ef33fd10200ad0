"""envpool's own: its options and its pictures."""

import os
import sys

import pytest

from envs.atari.envpool import games

pytestmark = pytest.mark.atari

B = 3


def test_every_option_reaches_the_emulator(build_game):
    env = build_game(
        backend="envpool",
        noop_max=7,
        frame_skip=3,
        frame_stack=2,
        max_episode_steps=11,
        episodic_life=False,
        sticky_actions=0.5,
        full_action_space=True,
        fire_reset=False,
        num_threads=1,
    )
    options = env._emulators._pool.config
    expected = {
        "noop_max": 7,
        "frame_skip": 3,
        "stack_num": 2,
        "max_episode_steps": 11,
        "episodic_life": False,
        "repeat_action_probability": 0.5,
        "full_action_space": True,
        "use_fire_reset": False,
        "num_threads": 1,
        "num_envs": B,
        "reward_clip": False,
    }
    assert {name: options[name] for name in expected} == expected
    assert env.spec.observation_shape == (2, 84, 84)
    assert env.spec.num_frames == 2


def test_by_default_there_is_a_thread_per_environment_but_never_more_than_cores(build_game):
    def threads(num_envs):
        env = build_game(num_envs=num_envs, backend="envpool", pools=1)
        return env._emulators._pool.config["num_threads"]

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    assert threads(1) == 1
    assert threads(cores + 1) == cores


def test_a_picture_is_the_screen_in_colour(build_game):
    env = build_game(backend="envpool", render=True)
    env.reset()
    picture = env.render()
    assert picture.shape == (210, 160, 3)  # the console's screen
    assert (picture[..., 0] != picture[..., 2]).any()  # red is not blue: some of it is not grey


def test_games_have_plain_names():
    assert len(games()) == len(set(games())) > 57
    assert all(game.isalnum() for game in games())
