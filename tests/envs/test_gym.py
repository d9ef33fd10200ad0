import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.gym import GymConfig
from envs.names import separated_seeds
from envs.observations import encoding_of
from tests.envs.toys import box

CPU = torch.device("cpu")


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
    ("shape", "dtype"), [((2, 3), np.float64), ((7,), np.int64), ((2, 3, 4), np.float32)]
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


def test_of_a_dictionary_the_picture_is_seen_and_the_spec_says_so(make_toy):
    entries = {"image": box((7, 7, 3), np.uint8), "direction": spaces.Discrete(4)}
    env = make_toy(spaces.Dict({**entries, "mission": spaces.Text(9)}))
    assert env.reset().shape == (2, 3, 7, 7)
    said = "The agent sees image of each observation, and not direction, mission."
    assert env.spec.note == said


def test_a_dictionary_without_a_picture_becomes_one_vector(make_toy):
    inner = spaces.Dict({"a": spaces.Discrete(3, start=1), "b": box((2,), np.uint8)})
    space = spaces.Dict({"goal": box((1, 2), np.float32), "inner": inner, "z": spaces.Text(3)})
    sample = {"goal": np.full((1, 2), 0.5, np.float32), "z": "x"}
    sample["inner"] = {"a": np.int64(2), "b": np.array([51, 255], np.uint8)}
    env = make_toy(space, sample)
    expected = torch.tensor([0.5, 0.5, 0, 1, 0, 0.2, 1])
    torch.testing.assert_close(env.reset()[1], expected)
    assert env.spec.note.endswith("and not z.")


def test_a_tuple_is_seen_by_index(make_toy):
    space = spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)])
    assert make_toy(space, (2, 1)).reset()[0].tolist() == [0, 0, 1, 0, 1]
    key = {"observation_key": "1"}
    assert make_toy(space, (2, 1), options=key).reset()[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("entries", "key", "said"),
    [
        ({"left": (9, 9, 3), "right": (9, 9, 3)}, "", "observation_key to one of left, right."),
        ({"left": (9, 9, 3)}, "lift", "lift is no entry .* choose one of left, or drop it"),
        ({"left": (9, 9, 3)}, "text", r"text is no entry .* text \(Text\): choose one of left"),
        ({}, "", r"nothing can be learnt from: text \(Text\)\."),
        ({"none": (0,)}, "", r"none \(an empty array of shape \(0,\)\), text \(Text\)\."),
    ],
)
def test_a_dictionary_that_leaves_a_question_is_refused_with_its_entries(
    entries, key, said, make_toy
):
    boxes = {name: box(shape, np.uint8) for name, shape in entries.items()}
    space = spaces.Dict({**boxes, "text": spaces.Text(9)})
    with pytest.raises(ValueError, match=said):
        make_toy(space, options={"observation_key": key})


@pytest.mark.parametrize(
    ("space", "sample", "seen"),
    [
        (spaces.Discrete(4, start=2), 3, [0, 1, 0, 0]),
        (spaces.MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0]),
        (spaces.MultiDiscrete([[2], [2]], start=[[5], [0]]), [[5], [1]], [1, 0, 0, 1]),
        (spaces.MultiBinary(3), [1, 0, 1], [1, 0, 1]),
    ],
)
def test_finite_sets_are_seen_as_zeros_and_ones(space, sample, seen, make_toy):
    observation = make_toy(space, np.asarray(sample, space.dtype)).reset()
    assert observation.dtype == torch.float32
    assert observation.tolist() == [seen, seen]


@pytest.mark.parametrize("shape", [(), (3,), (40, 40), (10, 10, 4), (4, 9, 9, 3), (2, 1, 2, 1, 2)])
def test_an_array_of_any_shape_and_type_is_seen_with_its_values(shape):
    bounded = [(kind, 0, 1) for kind in (bool, np.int8, np.float16, np.float64)]
    bounded += [(kind, 0, 255) for kind in (np.uint8, np.uint16, np.int64, np.uint64, np.float32)]
    bounded += [(kind, -np.inf, np.inf) for kind in (np.float16, np.float32, np.float64)]
    for dtype, low, high in [*bounded, (np.int32, -5, 9)]:
        space = spaces.Box(low, high, shape, dtype)
        sample = np.asarray(space.sample())
        encoding = encoding_of("Toy", space)
        seen = torch.from_numpy(encoding.encode(np.stack([sample, sample])))
        assert (seen.shape, seen.dtype) == ((2, *encoding.shape), encoding.dtype)
        expected = sample.astype(np.float64).flatten()
        if encoding.is_picture and high == 255 and seen.dtype == torch.float32:
            expected = expected / 255
        values = seen[1].float().flatten().sort().values
        torch.testing.assert_close(values, torch.from_numpy(expected).float().sort().values)


@pytest.mark.parametrize(
    ("shape", "dtype", "seen"),
    [((), np.uint8, (1,)), ((10, 10, 4), bool, (4, 10, 10)), ((9, 9), np.float16, (1, 9, 9))],
)
def test_arrays_of_other_types_than_bytes_are_played_with_as_well(shape, dtype, seen, make_toy):
    env = make_toy(spaces.Box(0, 1, shape, dtype))
    assert env.reset().shape == (2, *seen)
    assert env.step(torch.tensor([0, 1])).observation.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "seen", "frames"),
    [
        ((40, 40), (1, 40, 40), 1),
        ((10, 10, 16), (16, 10, 10), 1),
        ((3, 9, 9), (3, 9, 9), 1),
        ((4, 9, 9), (4, 9, 9), 4),
        ((4, 9, 8, 3), (12, 9, 8), 4),
        ((4, 3, 9, 8), (12, 9, 8), 4),
        ((128,), (128,), 1),
    ],
)
def test_bytes_stay_bytes_and_pictures_have_their_channels_first(shape, seen, frames, make_toy):
    env = make_toy(box(shape, np.uint8))
    assert env.spec.observation_shape == seen
    assert env.spec.num_frames == frames
    assert env.reset().dtype == torch.uint8


def test_whole_numbers_in_a_picture_of_0_to_255_are_bytes_and_others_are_scaled(make_toy):
    whole = np.full((9, 9, 3), 51, np.int32)
    assert make_toy(spaces.Box(0, 255, (9, 9, 3), np.int32), whole).reset().dtype == torch.uint8
    scaled = make_toy(spaces.Box(0, 255, (9, 9, 3), np.float32), whole.astype(np.float32)).reset()
    torch.testing.assert_close(scaled, torch.full((2, 3, 9, 9), 0.2))


def test_arrays_taken_as_they_are_keep_shape_and_values_and_the_protocol(make_toy):
    sample = np.full((40, 40), 7, np.uint8)
    env = make_toy(box((40, 40), np.uint8), sample, options={"raw_arrays": True})
    assert env.reset()[0].tolist() == sample.tolist()
    assert env.spec.observation_dtype == torch.float32
    assert env.spec.protocol == "raw"


def test_a_key_without_a_dictionary_is_refused():
    with pytest.raises(ValueError, match=r"no dictionary: drop observation_key image"):
        GymConfig(observation_key="image").build("CartPole-v1", 2, 0, CPU)


def test_other_observations_are_refused(make_toy):
    with pytest.raises(ValueError, match=r"observes Text; only arrays"):
        make_toy(spaces.Text(4))
    with pytest.raises(ValueError, match=r"observes an empty array of shape \(3, 0\)"):
        make_toy(box((3, 0), np.float32))
    with pytest.raises(ValueError, match=r"observes Discrete\(1000000\); only arrays"):
        make_toy(spaces.Discrete(10**6))


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
    assert refusal_of(AssertionError()) == "AuxgateToy-v0 could not be made: AssertionError."


def test_a_package_that_is_missing_is_named(refusal_of):
    said = refusal_of(ModuleNotFoundError("No module named 'jax.numpy'", name="jax.numpy"))
    assert said.startswith("AuxgateToy-v0 needs the package jax, which is not installed: install")


def test_gymnasiums_own_environment_with_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # as if it were not installed
    with pytest.raises(ValueError, match="phys2d/CartPole-v1 needs the package jax, which"):
        GymConfig().build("phys2d/CartPole-v1", 2, 0, CPU)


def test_a_negative_time_limit_is_refused():
    with pytest.raises(ValueError, match=r"^max_episode_steps must not be negative"):
        GymConfig(max_episode_steps=-1)


def test_a_time_limit_is_part_of_the_protocol():
    env = GymConfig(max_episode_steps=5).build("CartPole-v1", 2, 0, CPU)
    assert env.spec.protocol == "raw+max_episode_steps=5"
