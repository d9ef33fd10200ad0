import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from envs.gridworld.config import GridConfig
from envs.gridworld.gymnasium import ID, GridworldVectorEnv

SMALL = {"height": 6, "width": 7, "num_worlds": 8, "terminal_probability": 0.05}
CONFIG = GridConfig(**SMALL, observation="flat")


@pytest.fixture
def make():
    """Makes one environment of small worlds; closed at the end."""
    made = []

    def make(config=CONFIG, **options):
        made.append(gymnasium.make(ID, config=config, **options))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def make_vec():
    """Makes three environments of small worlds as one; closed at the end."""
    made = []

    def make_vec(config=CONFIG, num_envs=3, **options):
        made.append(gymnasium.make_vec(ID, num_envs=num_envs, config=config, **options))
        return made[-1]

    yield make_vec
    for env in made:
        env.close()


def random_actions(steps, num_envs):
    return np.random.default_rng(0).integers(4, size=(steps, num_envs))


@pytest.mark.parametrize("encoding", ["symbols", "one-hot", "flat"])
def test_gymnasiums_own_checks_pass_without_a_warning(make, encoding):
    config = GridConfig(**SMALL, observation=encoding)
    check_env(make(config, render_mode="rgb_array").unwrapped)


def test_importing_envs_is_enough_and_the_observation_is_one_box():
    # 3 x 3 cells of seven kinds: empty, wall, penalty, four terminal rewards.
    assert gymnasium.spec(ID).entry_point == "envs.gridworld.gymnasium:GridworldEnv"
    env = gymnasium.make(ID, config=CONFIG)
    assert env.observation_space == spaces.Box(0.0, 1.0, (63,), np.float32)
    assert env.action_space == spaces.Discrete(4)
    symbols = gymnasium.make(ID, config=GridConfig(**SMALL))
    assert symbols.observation_space == spaces.Box(0, 6, (3, 3), np.uint8)


def test_a_seed_fixes_an_episode_and_a_reset_without_one_goes_on(make):
    def play(env, seed):
        seen = [env.reset(seed=seed)[0]]
        for _ in range(3):
            over = False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(1)
                seen.append(np.append(observation, reward))
                over = terminated or truncated
            seen.append(env.reset()[0])
        return [part.tobytes() for part in seen]

    assert play(make(), 3) == play(make(), 3) != play(make(), 4)


def test_without_a_seed_no_two_are_alike(make):
    # Six starts in eight worlds agree throughout by one chance in 8**6.
    env, other = make(), make()
    starts = [[each.reset()[0].tobytes() for _ in range(6)] for each in (env, other)]
    assert starts[0] != starts[1]


def test_an_episode_ends_by_its_time_limit_truncated(make):
    env = make(GridConfig(**SMALL, max_episode_steps=1, termination_probability=0.0))
    ends = set()
    for seed in range(20):
        env.reset(seed=seed)
        ends.add(env.step(seed % 4)[2:4])
    # The first move may reach a terminal cell instead.
    assert ends <= {(False, True), (True, False)}
    assert (False, True) in ends


def test_many_are_stepped_together_as_the_learner_steps_them(make_vec):
    many = make_vec()
    assert isinstance(many, GridworldVectorEnv)
    assert many.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observation, _ = many.reset(seed=5)
    seed = int(gymnasium.utils.seeding.np_random(5)[0].integers(2**63))
    env = CONFIG.build("Gridworld", 3, seed, torch.device("cpu"))
    np.testing.assert_array_equal(observation, env.reset().numpy())
    assert many.observation_space.contains(observation)
    ended = False
    for actions in random_actions(60, 3):
        expected = env.step(torch.from_numpy(actions))
        observation, reward, terminated, truncated, _ = many.step(actions)
        for mine, theirs in (
            (observation, expected.observation),
            (reward, expected.reward),
            (terminated, expected.terminated),
            (truncated, expected.truncated),
        ):
            np.testing.assert_array_equal(mine, theirs.numpy())
        ended |= bool(terminated.any())
    assert ended


def test_one_at_a_time_works_too(make_vec):
    many = make_vec(vectorization_mode="sync")
    observation, _ = many.reset(seed=1)
    assert many.observation_space.contains(observation)
    assert many.step(many.action_space.sample())[0].shape == (3, 63)


def test_a_list_of_seeds_is_refused_where_one_is_enough(make_vec):
    with pytest.raises(ValueError, match="takes one seed for all environments"):
        make_vec().reset(seed=[1, 2, 3])


def test_pictures_come_where_they_are_asked_for(make, make_vec):
    drawn = make(render_mode="rgb_array")
    drawn.reset(seed=0)
    assert drawn.render().shape == (6 * 16, 7 * 16, 3)
    many = make_vec(render_mode="rgb_array")
    many.reset(seed=0)
    pictures = many.render()
    assert [picture.shape for picture in pictures] == [(6 * 16, 7 * 16, 3)] * 3
    assert make_vec().render() is None


def test_other_worlds_are_asked_for_by_their_options(make):
    env = make(GridConfig(num_worlds=2, layout="maze", height=7, width=9), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (7 * 16, 9 * 16, 3)
