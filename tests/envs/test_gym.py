import sys
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.gym import GymConfig
from envs.names import separated_seeds

CPU = torch.device("cpu")


class Toy(gymnasium.Env):
    """Observes `sample`, rewards the action, ends as it is told, is drawn as 10 + last action."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode, sample, space, actions, terminates=99, truncates=99):
        self.render_mode = render_mode
        self.sample, self.observation_space, self.action_space = sample, space, actions
        self.terminates, self.truncates = terminates, truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.picture = np.zeros((2, 3, 3), np.uint8)
        return self.sample, {}

    def step(self, action):
        self.steps += 1
        self.picture = np.full((2, 3, 3), 10 + action, np.uint8)
        ends = self.steps == self.terminates, self.steps == self.truncates
        return self.sample, float(action), *ends, {}

    def render(self):
        return self.picture


@pytest.fixture
def make_toy():
    """Registers a toy environment and builds two of it."""

    def make(space, sample=None, actions=None, options=None, render=False, **ends):
        arguments = {
            "sample": space.sample() if sample is None else sample,
            "space": space,
            "actions": actions or spaces.Discrete(3),
            **ends,
        }
        gymnasium.register(
            "AuxgateToy-v0",
            lambda render_mode=None: Toy(render_mode, **arguments),
            # It would warn of images of unusual size.
            disable_env_checker=True,
        )
        return GymConfig(**(options or {})).build("AuxgateToy-v0", 2, 0, CPU, render)

    yield make
    gymnasium.registry.pop("AuxgateToy-v0", None)


def box(shape, dtype):
    return spaces.Box(0, 255 if dtype is np.uint8 else 1.0, shape, dtype)


def test_cartpole_is_gymnasiums_own_until_its_first_end():
    num_envs = 3
    env = GymConfig().build("CartPole-v1", num_envs, 5, CPU)
    observation = env.reset()
    for b, seed in enumerate(separated_seeds(5, num_envs)):
        single = gymnasium.make("CartPole-v1")
        expected, _ = single.reset(seed=seed)
        assert observation[b].tolist() == expected.tolist()
    env.close()

    env = GymConfig().build("CartPole-v1", 1, 5, CPU)
    env.reset()
    single = gymnasium.make("CartPole-v1")
    single.reset(seed=separated_seeds(5, 1)[0])
    ended = False
    while not ended:
        step = env.step(torch.ones(1, dtype=torch.int64))
        expected, reward, terminated, truncated, _ = single.step(1)
        assert step.observation[0].tolist() == expected.tolist()
        assert step.reward.item() == reward
        assert (step.terminated.item(), step.truncated.item()) == (terminated, truncated)
        ended = terminated or truncated


def test_colour_images_come_with_channels_first(make_toy):
    image = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    env = make_toy(box((6, 5, 3), np.uint8), image)
    observation = env.reset()
    assert env.spec.observation_shape == (3, 6, 5)
    assert env.spec.num_frames == 1
    assert observation.dtype == torch.uint8
    assert observation.is_contiguous()
    assert observation[1].tolist() == image.transpose(2, 0, 1).tolist()


def test_stacked_frames_keep_their_channels_first(make_toy):
    frames = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
    env = make_toy(box((4, 6, 5), np.uint8), frames)
    assert env.spec.observation_shape == (4, 6, 5)
    assert env.spec.num_frames == 4
    assert env.reset()[1].tolist() == frames.tolist()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3), np.float64), ((7,), np.uint8), ((2, 3, 4), np.float32)]
)
def test_what_is_not_pixels_becomes_float32_in_its_own_shape(make_toy, shape, dtype):
    sample = np.ones(shape, dtype)
    env = make_toy(box(shape, dtype), sample)
    observation = env.reset()
    assert env.spec.observation_shape == shape
    assert env.spec.observation_dtype == observation.dtype == torch.float32
    assert observation[0].tolist() == sample.tolist()


def test_actions_count_from_zero_wherever_the_environment_starts(make_toy):
    env = make_toy(box((7,), np.float32), actions=spaces.Discrete(3, start=5))
    env.reset()
    assert env.step(torch.tensor([0, 2])).reward.tolist() == [5.0, 7.0]


def test_a_termination_on_the_very_step_of_the_limit_terminates(make_toy):
    env = make_toy(box((7,), np.float32), terminates=2, truncates=2)
    env.reset()
    env.step(torch.tensor([0, 0]))
    step = env.step(torch.tensor([0, 0]))
    assert step.terminated.all()
    assert not step.truncated.any()
    assert step.ended.all()


def test_one_entry_of_a_dictionary_can_be_observed(make_toy):
    space = spaces.Dict({"image": box((6, 5, 3), np.uint8), "mission": spaces.Text(9)})
    env = make_toy(space, options={"observation_key": "image"})
    assert env.reset().shape == (2, 3, 6, 5)


def test_a_dictionary_is_refused_with_the_entries_to_choose_from(make_toy):
    space = spaces.Dict({"image": box((6, 5, 3), np.uint8), "mission": spaces.Text(9)})
    with pytest.raises(ValueError, match=r"set observation_key to one of image\."):
        make_toy(space)


def test_a_key_without_a_dictionary_is_refused():
    with pytest.raises(ValueError, match=r"no dictionary: drop observation_key image"):
        GymConfig(observation_key="image").build("CartPole-v1", 2, 0, CPU)


def test_other_observations_are_refused(make_toy):
    with pytest.raises(ValueError, match=r"only arrays \(Box\) are supported"):
        make_toy(spaces.Discrete(4), sample=2)


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match=r"only a finite set \(Discrete\) is supported"):
        GymConfig().build("Pendulum-v1", 2, 0, CPU)


def test_an_unknown_id_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'CartPole-v9': did you mean CartPole-v1"):
        GymConfig().build("CartPole-v9", 2, 0, CPU)


@pytest.fixture
def refusal_of(monkeypatch):
    """What is said where making an environment raises an error."""

    def refusal_of(error):
        def broken(render_mode=None):
            raise error

        gymnasium.register("AuxgateToy-v0", broken)
        try:
            with pytest.raises(ValueError, match="AuxgateToy-v0") as refused:
                GymConfig().build("AuxgateToy-v0", 2, 0, CPU)
        finally:
            gymnasium.registry.pop("AuxgateToy-v0")
        said = str(refused.value)
        assert "\n" not in said
        return said

    return refusal_of


@pytest.mark.parametrize(
    "error",
    [
        gymnasium.error.DependencyNotInstalled("install box2d"),
        gymnasium.error.ResetNeeded("install box2d"),
        ImportError("install box2d"),
        TypeError("install\n   box2d"),
        RuntimeError("install box2d"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_environment_that_cannot_be_made_is_refused_with_the_reason(error, refusal_of):
    # To some, Gymnasium adds where they come from.
    assert refusal_of(error).startswith("AuxgateToy-v0 could not be made: install box2d")


def test_an_error_without_words_is_named_by_its_kind(refusal_of):
    assert refusal_of(AssertionError()) == "AuxgateToy-v0 could not be made: AssertionError"


def test_a_package_that_is_missing_is_named(refusal_of):
    said = refusal_of(ModuleNotFoundError("No module named 'jax.numpy'", name="jax.numpy"))
    assert said.startswith("AuxgateToy-v0 needs the package jax, which is not installed: install")


def test_gymnasiums_own_environment_with_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # as if it were not installed
    with pytest.raises(ValueError, match="phys2d/CartPole-v1 needs the package jax, which"):
        GymConfig().build("phys2d/CartPole-v1", 2, 0, CPU)


def test_a_picture_is_the_environments_own(make_toy):
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    env.step(torch.tensor([0, 2]))
    assert env.render(1).tolist() == np.full((2, 3, 3), 12).tolist()
    assert env.render(0).tolist() == np.full((2, 3, 3), 10).tolist()


def test_an_environment_without_pictures_is_refused_where_they_are_asked_for(make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "metadata", {"render_modes": ["ansi"]})
    with pytest.raises(ValueError, match="AuxgateToy-v0 cannot be drawn: it has no picture"):
        make_toy(box((7,), np.float32), render=True)


def test_a_picture_that_needs_a_missing_package_is_refused_with_the_reason(make_toy, monkeypatch):
    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(Toy, "render", render)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(ValueError, match="AuxgateToy-v0 cannot be drawn: pygame is not installed"):
        env.render()


def test_a_negative_time_limit_is_refused():
    with pytest.raises(ValueError, match=r"^max_episode_steps must not be negative"):
        GymConfig(max_episode_steps=-1)


def test_a_time_limit_is_part_of_the_protocol():
    env = GymConfig(max_episode_steps=5).build("CartPole-v1", 2, 0, CPU)
    assert env.spec.protocol == "raw+max_episode_steps=5"
