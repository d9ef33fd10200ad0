import os
import sys
from pathlib import Path

import pytest
import torch

import envs.atari
from envs import Episodes
from envs.atari import MACHADO, STANDARD_GAMES, AtariConfig, atari_games

CPU = torch.device("cpu")
B = 3

needs_envpool = pytest.mark.atari


@pytest.fixture
def build():
    """Builds an Atari environment and closes it at the end."""
    built = []

    def build(config, game="Breakout", num_envs=B, seed=0):
        built.append(config.build(game, num_envs, seed, CPU))
        return built[-1]

    yield build
    for env in built:
        env.close()


def play_until_over(env, actions=(1,), limit=2000):
    """Repeats `actions` (FIRE by default) until the first game is over; returns all steps."""
    env.reset()
    steps = []
    while not (steps and steps[-1].ended[0]) and len(steps) < limit:
        action = actions[len(steps) % len(actions)]
        steps.append(env.step(torch.full((env.spec.num_envs,), action)))
    assert steps[-1].ended[0]
    return steps


@needs_envpool
def test_a_lost_life_terminates_and_only_the_last_ends_the_episode(build):
    steps = play_until_over(build(AtariConfig(), num_envs=1))
    terminated = [t for t, step in enumerate(steps) if step.terminated[0]]
    assert len(terminated) == 5  # Breakout's balls
    assert [t for t, step in enumerate(steps) if step.ended[0]] == terminated[-1:]
    assert not any(step.truncated[0] for step in steps)


@needs_envpool
def test_a_lost_life_comes_with_the_true_last_observation(build):
    env = build(AtariConfig(), num_envs=1)
    uncut = build(AtariConfig(episodic_life=False), num_envs=1)
    assert torch.equal(env.reset(), uncut.reset())
    fire = torch.ones(1, dtype=torch.int64)
    terminated = False
    while not terminated:
        step, expected = env.step(fire), uncut.step(fire)
        assert torch.equal(step.observation, expected.observation)
        assert not expected.terminated.item()
        terminated = step.terminated.item()


@needs_envpool
def test_a_return_counts_over_all_lives(build):
    env = build(AtariConfig(), num_envs=1)
    episodes = Episodes(1, CPU)
    rewards = []
    for step in play_until_over(env, actions=(1, 2, 2, 3)):
        episodes.update(step)
        rewards.append(step.reward.item())
    assert sum(rewards) > 0
    summary = episodes.summary()
    # Each of the four lives lost before the last costs one autoreset step.
    assert (summary.finished, summary.mean_return) == (1, sum(rewards))
    assert summary.mean_length == len(rewards) - 4


@needs_envpool
def test_without_episodic_life_only_game_over_terminates(build):
    steps = play_until_over(build(AtariConfig(episodic_life=False), num_envs=1))
    assert [step.terminated[0].item() for step in steps] == [False] * (len(steps) - 1) + [True]


@needs_envpool
@pytest.mark.parametrize("episodic_life", [True, False])
def test_a_game_over_on_the_very_step_of_the_time_limit_terminates(build, episodic_life):
    config = AtariConfig(episodic_life=episodic_life)
    steps = play_until_over(build(config, num_envs=1))
    # Autoreset steps after a lost life do not count towards the limit.
    length = sum(int(step.valid[0]) for step in steps)
    config = AtariConfig(episodic_life=episodic_life, max_episode_steps=length)
    env = build(config, num_envs=1)
    last = play_until_over(env)[-1]
    assert last.terminated.item()
    assert not last.truncated.item()
    assert last.ended.item()
    assert not env.step(torch.ones(1, dtype=torch.int64)).valid.item()

    config = AtariConfig(episodic_life=episodic_life, max_episode_steps=length - 1)
    earlier = play_until_over(build(config, num_envs=1))[-1]
    assert earlier.truncated.item()
    assert not earlier.terminated.item()


@needs_envpool
def test_rewards_are_raw(build):
    env = build(AtariConfig(), game="Qbert")
    assert env.spec.reward_transform == "sign"
    env.reset()
    rewards = set()
    for _ in range(60):
        rewards |= set(env.step(torch.full((B,), 5)).reward.tolist())  # 5: down
    assert 25.0 in rewards  # the points for a cube


@needs_envpool
def test_the_number_of_threads_changes_nothing(build):
    one, two = build(AtariConfig(num_threads=1)), build(AtariConfig(num_threads=2))
    assert torch.equal(one.reset(), two.reset())
    for t in range(40):
        action = torch.tensor([t % 4, 1, t % 3])
        left, right = one.step(action), two.step(action)
        assert torch.equal(left.observation, right.observation)
        assert torch.equal(left.reward, right.reward)


@needs_envpool
def test_every_option_reaches_the_emulator(build):
    config = AtariConfig(
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
    env = build(config)
    options = env._pool.config
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


@needs_envpool
def test_by_default_there_is_a_thread_per_environment_but_never_more_than_cores(build):
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    assert build(AtariConfig(), num_envs=1)._pool.config["num_threads"] == 1
    assert build(AtariConfig(), num_envs=cores + 1)._pool.config["num_threads"] == cores


@needs_envpool
@pytest.mark.parametrize(
    ("game", "full", "name"),
    [
        ("Breakout", False, "Breakout:minimal4"),
        ("Breakout", True, "Atari:full18"),
        ("Boxing", False, "Atari:full18"),  # a game that uses all eighteen
    ],
)
def test_the_name_of_the_action_set_says_which_actions_there_are(build, game, full, name):
    spec = build(AtariConfig(full_action_space=full), game, num_envs=1).spec
    assert spec.action_set == name
    assert name.endswith(str(spec.num_actions))


@needs_envpool
def test_an_environment_is_refused_in_another_process_than_its_own(build, monkeypatch):
    env = build(AtariConfig(), num_envs=1)
    env.reset()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="built in another process"):
        env.step(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="built in another process"):
        env.reset()


@needs_envpool
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by /proc")
def test_closing_ends_the_threads_and_may_be_repeated():
    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    warm_up = AtariConfig().build("Breakout", 1, 0, CPU)
    warm_up.close()
    before = threads()
    env = AtariConfig(num_threads=2).build("Breakout", 2, 0, CPU)
    env.reset()
    assert threads() >= before + 2
    env.close()
    env.close()
    assert threads() == before


@needs_envpool
def test_a_name_is_spelt_as_envpool_spells_it(build):
    assert build(AtariConfig(), game="breakout", num_envs=1).spec.name == "Breakout"


@needs_envpool
def test_an_unknown_game_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'Breakot': did you mean Breakout"):
        AtariConfig().build("Breakot", 1, 0, CPU)


@needs_envpool
def test_the_games_have_plain_names_and_the_standard_ones_are_among_them():
    games = atari_games()
    assert len(STANDARD_GAMES) == len(set(STANDARD_GAMES)) == 57
    assert set(STANDARD_GAMES) < set(games)
    assert all(game.isalnum() for game in games)


def test_without_envpool_a_game_is_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr(envs.atari, "find_spec", lambda name: None)
    assert atari_games() == STANDARD_GAMES
    with pytest.raises(ValueError, match=r"Pong needs envpool: pip install 'auxgate\[atari\]'"):
        AtariConfig().build("Pong", 1, 0, CPU)


@pytest.mark.parametrize(
    ("config", "protocol"),
    [
        (AtariConfig(), "baselines"),
        (AtariConfig(num_threads=5), "baselines"),
        (AtariConfig(sticky_actions=0.25), "baselines+sticky_actions=0.25"),
        (
            AtariConfig(noop_max=1, full_action_space=True),
            "baselines+noop_max=1+full_action_space=True",
        ),
        (MACHADO, "machado"),
    ],
)
def test_the_protocol_is_a_published_one_or_says_what_departs(config, protocol):
    assert config.protocol() == protocol


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noop_max": 0}, r"--env.noop-max 0 would crash envpool; for no no-ops use 1"),
        ({"frame_skip": 0}, r"--env.frame-skip must be at least 1, not 0"),
        ({"frame_stack": 0}, r"--env.frame-stack must be at least 1, not 0"),
        ({"max_episode_steps": 0}, r"--env.max-episode-steps must be at least 1, not 0"),
        ({"sticky_actions": 1.0}, r"--env.sticky-actions is a probability below 1, not 1.0"),
        ({"sticky_actions": -0.1}, r"--env.sticky-actions is a probability below 1, not -0.1"),
        ({"num_threads": -1}, r"--env.num-threads must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_their_flag(options, message):
    with pytest.raises(ValueError, match=message):
        AtariConfig(**options)
