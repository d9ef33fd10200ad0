import pytest

from configs.evaluate import EvaluateOptions


def test_a_hundred_episodes_on_seeds_far_from_those_of_training():
    options = EvaluateOptions("runs/x")
    assert options.episodes == 100
    assert options.seed > 1_000_000
    assert options.output == ""


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        ({"episodes": 0}, "--episodes must be at least 1, not 0"),
        ({"episodes": -3}, "--episodes must be at least 1, not -3"),
        ({"num_envs": 0}, "--num-envs must be at least 1, not 0"),
        ({"seed": -1}, "--seed"),
        ({"threads": -1}, "--threads"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_flag(option, flag):
    with pytest.raises(ValueError, match=flag):
        EvaluateOptions("runs/x", **option)
