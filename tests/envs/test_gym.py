import sys
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs import find, names
from envs.base import PictureError
from envs.gym import GymConfig, arguments_of
from envs.names import separated_seeds
from envs.observations import encoding_of

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
        gymnasium.registry.pop("AuxgateToy-v0", None)
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


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (None, "returned nothing instead of a picture"),
        ([np.zeros((2, 3, 3), np.uint8)], "returned a list instead"),
        (np.zeros((2, 3, 3)), r"returned float64 of shape \(2, 3, 3\) instead"),
        (np.zeros((2, 0, 3), np.uint8), r"returned uint8 of shape \(2, 0, 3\) instead"),
        (np.zeros((2, 3, 5), np.uint8), r"returned uint8 of shape \(2, 3, 5\) instead"),
    ],
)
def test_what_is_no_picture_is_refused(picture, said, make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "render", lambda self: picture)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(PictureError, match=said):
        env.render()


def test_an_error_of_its_own_while_drawing_is_told_in_a_sentence(make_toy, monkeypatch):
    monkeypatch.setattr(Toy, "render", lambda self: 1 / 0)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    with pytest.raises(PictureError, match="AuxgateToy-v0 cannot be drawn: division by zero"):
        env.render()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 4)])
def test_grey_and_transparent_pictures_become_colours(shape, make_toy, monkeypatch):
    picture = np.full(shape, 9, np.uint8)
    monkeypatch.setattr(Toy, "render", lambda self: picture)
    env = make_toy(box((7,), np.float32), render=True)
    env.reset()
    assert env.render().tolist() == np.full((2, 3, 3), 9).tolist()


def test_arguments_reach_the_environment_and_the_protocol():
    kwargs = ("map_name=8x8", "is_slippery=false")
    env = GymConfig(kwargs=kwargs).build("FrozenLake-v1", 1, 0, CPU)
    assert env.reset().shape == (1, 64)
    assert env.step(torch.tensor([1])).observation.argmax() == 8  # never slips
    assert env.spec.protocol == "raw+map_name=8x8+is_slippery=false"


def test_the_value_of_an_argument_is_json_or_python_or_text():
    given = ("a=1", "b=false", "c=False", "d=(1, 2)", 'e=["x"]', "f=8x8", "g=", "h=a=b", "i=None")
    values = [1, False, False, (1, 2), ["x"], "8x8", "", "a=b", None]
    assert list(arguments_of(given).values()) == values


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (("slippery=0",), "^kwargs cannot have slippery, .* it takes desc, map_name, is_slippery"),
        (("map_name=9x9",), "could not be made with kwargs map_name=9x9: "),
        (("map_name",), "^kwargs takes arguments as NAME=VALUE, not 'map_name'"),
        (("a=1", "a=2"), "^kwargs has a twice"),
        (("render_mode=human",), "^kwargs cannot have render_mode, which is set where"),
        (("num_envs=3",), "^kwargs cannot have num_envs, which is an argument of Gymnasium's"),
    ],
)
def test_wrong_arguments_are_refused(kwargs, said):
    with pytest.raises(ValueError, match=said):
        GymConfig(kwargs=kwargs).build("FrozenLake-v1", 1, 0, CPU)


MODULE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("AuxgatePole-v0", CartPoleEnv)
gymnasium.register("auxgatepole-v0", CartPoleEnv)
gymnasium.register("space/AuxgateOther-v0", CartPoleEnv)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules that can be imported, as a user has them: three good ids, and three failures."""
    contents = {"auxgate_good": MODULE, "auxgate_lacks": "import auxgate_nowhere.inner"}
    contents |= {"auxgate_fails": "raise RuntimeError('no\\nlicence.')", "auxgate_ends": "exit(3)"}
    for name, content in contents.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    for name in contents:
        sys.modules.pop(name, None)


def test_a_module_before_the_id_is_imported_and_stays_in_the_name(modules):
    name = "auxgate_good:AuxgatePole-v0"
    assert find(name) == (name, "gym")
    assert find("auxgate_good:SPACE/auxgateother-V0")[0] == "auxgate_good:space/AuxgateOther-v0"
    env = GymConfig().build(name, 2, 0, CPU)
    assert env.spec.name == name
    assert env.spec.action_set == "AuxgatePole-v0:discrete2"  # as without the module
    assert env.reset().shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("auxgate_good:AUXGATEPOLE-v0", "AuxgatePole-v0 or auxgatepole-v0, which differ in upper"),
        ("auxgate_good:AuxgateOthr-v0", "registers no .* did you mean space/AuxgateOther-v0"),
        ("auxgate_none:X-v0", "module auxgate_none, which is not installed: install it, or add"),
        ("auxgate_lacks:X-v0", "auxgate_lacks, which needs the package auxgate_nowhere: install"),
        ("auxgate_fails:X-v0", r"cannot be imported \(RuntimeError: no licence\): mend it"),
        ("auxgate_ends:X-v0", r"cannot be imported \(SystemExit: 3\): mend it"),
        *((name, "write it as module:Id") for name in (":X", "m:", "a b:X", "a:b:X", ".m:X")),
    ],
)
def test_a_module_that_does_not_help_is_refused_in_one_sentence(name, said, modules):
    with pytest.raises(ValueError, match=said) as refused:
        find(name)
    assert "\n" not in str(refused.value)


def test_the_id_of_a_well_known_package_finds_it_or_names_the_cure(modules, monkeypatch):
    monkeypatch.setitem(names.PACKAGES, "auxgate", "auxgate_good")
    assert find("AuxgatePole-v0") == ("AuxgatePole-v0", "gym")
    monkeypatch.setitem(sys.modules, "minigrid", None)  # as if it were not installed
    cure = r"pip install minigrid\), .* then choose minigrid:MiniGrid-New-v7\."
    with pytest.raises(ValueError, match=cure):
        find("MiniGrid-New-v7")
