import pytest
import torch

from envs.base import EnvSpec, check_action, check_action_range

SPEC = EnvSpec(
    name="Toy",
    num_envs=3,
    observation_shape=(5,),
    observation_dtype=torch.float32,
    num_actions=4,
    action_set="Toy:four",
)


def test_int64_actions_of_the_right_length_pass():
    check_action(torch.tensor([0, 3, 2]), SPEC)
    check_action_range(torch.tensor([0, 3, 2]), SPEC)


@pytest.mark.parametrize(
    "action",
    [
        torch.zeros(3),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(3, 1, dtype=torch.int64),
    ],
    ids=["float", "int32", "too few", "a column"],
)
def test_other_actions_are_refused_with_what_would_be_right(action):
    with pytest.raises(ValueError, match=r"Toy takes int64 actions of shape \(3,\), not"):
        check_action(action, SPEC)


@pytest.mark.parametrize(("wrong", "found"), [(-1, "-1 to 3"), (4, "2 to 4")])
def test_actions_outside_the_range_are_refused_with_what_was_found(wrong, found):
    with pytest.raises(ValueError, match=f"the actions 0 to 3; got {found}"):
        check_action_range(torch.tensor([2, 3, wrong]), SPEC)
