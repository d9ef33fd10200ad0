"""Games behind the contract, the same whichever emulators play them."""

import os
import sys
from pathlib import Path

import pytest
import torch

from envs import Episodes
from envs.atari.config import AtariConfig

CPU = torch.device("cpu")
B = 3

pytestmark = pytest.mark.atari


def everybody(action, num_envs=1):
    return torch.full((num_envs,), action)


def test_a_lost_life_terminates_and_only_the_last_ends_the_episode(
    build_game, backend, play_until_over
):
    steps = play_until_over(build_game(num_envs=1, backend=backend))
    terminated = [t for t, step in enumerate(steps) if step.terminated[0]]
    assert len(terminated) == 5  # Breakout's balls
    assert [t for t, step in enumerate(steps) if step.ended[0]] == terminated[-1:]
    assert not any(step.truncated[0] for step in steps)


def test_a_lost_life_comes_with_the_true_last_observation(build_game, backend):
    env = build_game(num_envs=1, backend=backend)
    uncut = build_game(num_envs=1, backend=backend, episodic_life=False)
    assert torch.equal(env.reset(), uncut.reset())
    terminated = False
    while not terminated:
        step, expected = env.step(everybody(1)), uncut.step(everybody(1))
        assert torch.equal(step.observation, expected.observation)
        assert not expected.terminated.item()
        terminated = step.terminated.item()


def test_a_return_counts_over_all_lives(build_game, backend, play_until_over):
    episodes = Episodes(1, CPU)
    rewards = []
    for step in play_until_over(build_game(num_envs=1, backend=backend), actions=(2, 3, 3)):
        episodes.update(step)
        rewards.append(step.reward.item())
    assert sum(rewards) > 0
    summary = episodes.summary()
    # Each of the four lives lost before the last costs one autoreset step.
    assert (summary.finished, summary.mean_return) == (1, sum(rewards))
    assert summary.mean_length == len(rewards) - 4


def test_without_episodic_life_only_game_over_terminates(build_game, backend, play_until_over):
    env = build_game(num_envs=1, backend=backend, episodic_life=False)
    steps = play_until_over(env)
    assert [step.terminated[0].item() for step in steps] == [False] * (len(steps) - 1) + [True]


@pytest.mark.parametrize("episodic_life", [True, False])
def test_a_game_over_on_the_very_step_of_the_time_limit_terminates(
    build_game, backend, play_until_over, episodic_life
):
    rules = {"num_envs": 1, "backend": backend, "episodic_life": episodic_life}
    steps = play_until_over(build_game(**rules))
    # Autoreset steps after a lost life do not count towards the limit.
    length = sum(int(step.valid[0]) for step in steps)
    env = build_game(**rules, max_episode_steps=length)
    last = play_until_over(env)[-1]
    assert last.terminated.item()
    assert not last.truncated.item()
    assert last.ended.item()
    assert not env.step(everybody(1)).valid.item()

    earlier = play_until_over(build_game(**rules, max_episode_steps=length - 1))[-1]
    assert earlier.truncated.item()
    assert not earlier.terminated.item()


def test_a_life_lost_on_the_very_step_of_the_time_limit_is_a_truncation(build_game, backend):
    env = build_game(num_envs=1, backend=backend)
    env.reset()
    length, terminated = 0, False
    while not terminated:
        terminated = env.step(everybody(1)).terminated.item()
        length += 1
    env = build_game(num_envs=1, backend=backend, max_episode_steps=length)
    env.reset()
    for _ in range(length):
        step = env.step(everybody(1))
    assert (step.terminated.item(), step.truncated.item(), step.ended.item()) == (False, True, True)


def test_with_fire_reset_a_player_who_never_fires_loses_life_after_life(
    build_game, backend, play_until_over
):
    env = build_game(num_envs=1, backend=backend)
    steps = play_until_over(env, actions=(0,))
    assert sum(step.terminated.item() for step in steps) == 5

    waits = build_game(num_envs=1, backend=backend, fire_reset=False)
    waits.reset()
    assert not any(waits.step(everybody(0)).terminated.item() for _ in range(len(steps)))


def test_rewards_are_raw(build_game, backend):
    env = build_game("Qbert", backend=backend)
    assert env.spec.reward_transform == "sign"
    env.reset()
    rewards = set()
    for _ in range(60):
        rewards |= set(env.step(everybody(5, B)).reward.tolist())  # 5: down
    assert 25.0 in rewards  # the points for a cube


def test_the_number_of_threads_changes_nothing(build_game, backend):
    one = build_game(backend=backend, num_threads=1)
    two = build_game(backend=backend, num_threads=2)
    assert torch.equal(one.reset(), two.reset())
    for t in range(40):
        action = torch.tensor([t % 4, 1, t % 3])
        left, right = one.step(action), two.step(action)
        assert torch.equal(left.observation, right.observation)
        assert torch.equal(left.reward, right.reward)


@pytest.mark.parametrize(
    ("game", "full", "name"),
    [
        ("Breakout", False, "Breakout:minimal4"),
        ("Breakout", True, "Atari:full18"),
        ("Boxing", False, "Atari:full18"),  # a game that uses all eighteen
    ],
)
def test_the_name_of_the_action_set_says_which_actions_there_are(
    build_game, backend, game, full, name
):
    spec = build_game(game, num_envs=1, backend=backend, full_action_space=full).spec
    assert spec.action_set == name
    assert name.endswith(str(spec.num_actions))


def test_games_are_refused_in_another_process_than_their_own(build_game, backend, monkeypatch):
    env = build_game(num_envs=1, backend=backend)
    env.reset()
    env.send(everybody(0))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: -1)
        for use in (env.receive, env.reset, lambda: env.send(everybody(0))):
            with pytest.raises(RuntimeError, match="built in another process"):
                use()
    assert env.receive().valid.all()


def test_a_reset_while_the_games_play_is_refused(build_game, backend):
    env = build_game(num_envs=1, backend=backend)
    env.reset()
    env.send(everybody(0))
    with pytest.raises(AssertionError, match=r"receive\(\) the last step before a reset"):
        env.reset()
    env.receive()


@pytest.mark.parametrize("index", [-1, B])
def test_an_environment_that_is_not_there_cannot_be_drawn(build_game, backend, index):
    env = build_game(backend=backend, render=True)
    env.reset()
    with pytest.raises(AssertionError, match=f"there is no environment {index}"):
        env.render(index)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by /proc")
@pytest.mark.parametrize("playing", [False, True])
def test_closing_ends_the_threads_and_may_be_repeated(backend, playing):
    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    config = AtariConfig(backend=backend, num_threads=2)
    warm_up = config.build("Breakout", 1, 0, CPU)
    warm_up.close()
    before = threads()
    env = config.build("Breakout", 2, 0, CPU)
    env.reset()
    assert threads() >= before + 2
    if playing:
        env.send(everybody(0, 2))
    env.close()
    env.close()
    assert threads() == before
