import pytest

from configs.cli import parse_evaluate
from configs.errors import UsageError
from configs.programs import EvaluateOptions


def test_a_hundred_episodes_on_seeds_far_from_those_of_training():
    options = EvaluateOptions(("runs/x",))
    assert options.episodes == 100
    assert options.seed > 1_000_000
    assert options.output == options.video == ""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"runs": ()}, "RUN is missing"),
        ({"episodes": 0}, "--episodes must be at least 1, not 0"),
        ({"episodes": -3}, "--episodes must be at least 1, not -3"),
        ({"num_envs": 0}, "--num-envs must be at least 1, not 0"),
        ({"video": "x.gif", "video_steps": 0}, "--video-steps must be at least 1, not 0"),
        ({"seed": -1}, "--seed"),
        ({"threads": -1}, "--threads"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_flag(option, said):
    with pytest.raises(ValueError, match=said):
        EvaluateOptions(**{"runs": ("runs/x",)} | option)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"runs": ("a", "b")}, "--video films one RUN, not 2"),
        ({"output": "x.json"}, "nothing for --output"),
        ({"episodes": 5}, "drop --episodes"),
        ({"num_envs": 5}, "drop --num-envs"),
    ],
)
def test_what_has_no_effect_on_a_film_is_refused(option, said):
    with pytest.raises(ValueError, match=said):
        EvaluateOptions(**{"runs": ("runs/x",), "video": "x.gif"} | option)


def test_a_film_is_of_one_episode_and_may_say_so():
    assert EvaluateOptions(("runs/x",), video="x.gif", episodes=1, num_envs=1).video_steps == 2000


def test_the_length_of_a_film_has_no_effect_without_a_film():
    with pytest.raises(ValueError, match="--video-steps has no effect without --video"):
        EvaluateOptions(("runs/x",), video_steps=10)


@pytest.mark.parametrize("words", [["--output", ""], ["--output="], ["--video", ""]])
def test_an_empty_path_is_no_default(words):
    with pytest.raises(UsageError, match=r"^--\w+ is empty: name a file or folder, or leave"):
        parse_evaluate(["runs/x", *words])
