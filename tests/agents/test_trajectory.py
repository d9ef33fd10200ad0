from dataclasses import dataclass, fields, replace

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from agents.trajectory import AgentOutput, Targets, Trajectory, shuffled_slices

T, B = 3, 2


def whole(trajectory):
    """A trajectory that lacks nothing."""
    return replace(
        trajectory,
        state=torch.arange(8).view(4, 2),
        core_state=torch.randn(B, 5),
        episode_start=torch.tensor([False, True]),
        value=torch.randn(4, B),
    )


def test_a_trajectory_has_one_observation_more_than_steps(build_trajectory):
    trajectory = build_trajectory()
    with pytest.raises(TypeCheckError, match="observation"):
        replace(trajectory, observation=trajectory.observation[:-1])


@pytest.mark.parametrize("field", ["reward", "terminated", "truncated", "valid", "log_probability"])
def test_a_trajectory_has_one_number_per_step_and_environment(build_trajectory, field):
    trajectory = build_trajectory()
    for wrong in (getattr(trajectory, field).T, getattr(trajectory, field)[:-1]):
        with pytest.raises(TypeCheckError, match=field):
            replace(trajectory, **{field: wrong})


@pytest.mark.parametrize("field", ["value", "state"])
def test_a_trajectory_has_one_value_and_one_cell_per_observation(build_trajectory, field):
    trajectory = whole(build_trajectory())
    with pytest.raises(TypeCheckError, match=field):
        replace(trajectory, **{field: getattr(trajectory, field)[:-1]})


def test_an_output_has_as_many_values_as_logits():
    features = torch.zeros(4, 2, 5)
    with pytest.raises(TypeCheckError, match="value"):
        AgentOutput(None, features, features, torch.zeros(4, 2, 3), torch.zeros(3, 2))


def test_a_memory_is_reset_after_invalid_steps_and_not_after_ends(build_trajectory):
    # Environment 0 is cut at step 0 and discards step 1; environment 1 terminates at step 1.
    trajectory = build_trajectory(truncated=[(0, 0)], terminated=[(1, 1)])
    trajectory = replace(trajectory, episode_start=torch.tensor([False, True]))
    assert trajectory.reset.tolist() == [
        [False, True],
        [False, False],
        [True, False],
        [False, True],
    ]


def test_where_a_beginning_is_not_known_the_first_observation_opens_nothing(build_trajectory):
    trajectory = build_trajectory()
    assert trajectory.episode_start is None
    assert not trajectory.reset[0].any()


@pytest.mark.parametrize("chosen", [[1], [1, 0], [0, 1]])
def test_a_minibatch_is_whole_columns_in_the_order_asked_for(build_trajectory, chosen):
    trajectory = whole(build_trajectory(truncated=[(0, 0)]))
    minibatch = trajectory.select(torch.tensor(chosen))
    for field in fields(Trajectory):
        mine, theirs = getattr(minibatch, field.name), getattr(trajectory, field.name)
        first = field.name in ("core_state", "episode_start")
        for place, b in enumerate(chosen):
            expected = theirs[b] if first else theirs[:, b]
            assert torch.equal(mine[place] if first else mine[:, place], expected), field.name
        assert len(mine) == len(chosen) if first else mine.shape[1] == len(chosen)
    assert torch.equal(minibatch.reset, trajectory.reset[:, chosen])


def test_what_a_trajectory_lacks_its_minibatches_lack(build_trajectory):
    minibatch = build_trajectory().select(torch.tensor([0]))
    assert (
        minibatch.state
        is minibatch.core_state
        is minibatch.episode_start
        is minibatch.value
        is None
    )


@dataclass(frozen=True)
class Example(Targets):
    policy: Float[Tensor, "T B A"]
    value: Float[Tensor, "T B"]
    name: str
    nothing: Tensor | None = None


def test_targets_of_a_minibatch_are_those_of_its_environments():
    targets = Example(torch.randn(T, B, 4), torch.randn(T, B), "mine")
    chosen = targets.select(torch.tensor([1]))
    assert torch.equal(chosen.policy, targets.policy[:, 1:])
    assert torch.equal(chosen.value, targets.value[:, 1:])
    assert (chosen.name, chosen.nothing) == ("mine", None)


def test_targets_of_nothing_stay_nothing():
    assert Targets().select(torch.tensor([1])) == Targets()


@pytest.mark.parametrize(
    ("num_envs", "count", "sizes"), [(6, 4, [2, 2, 1, 1]), (2, 4, [1, 1]), (8, 4, [2, 2, 2, 2])]
)
def test_slices_hold_every_environment_once_and_their_sizes_differ_by_one(num_envs, count, sizes):
    shuffling = torch.Generator().manual_seed(0)
    slices = shuffled_slices(num_envs, count, shuffling, torch.device("cpu"))
    assert [len(each) for each in slices] == sizes
    assert sorted(torch.cat(list(slices)).tolist()) == list(range(num_envs))
