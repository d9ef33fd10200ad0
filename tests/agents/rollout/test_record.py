import pytest
import torch

from agents.rollout.collector import Record
from envs.base import Step

T, B = 3, 4
LEFT, RIGHT = slice(0, 1), slice(1, 4)
"""Two parts of different sizes."""
KINDS = ("terminated", "truncated", "valid", "ended")


def random_step(size, generator, state=False):
    def flag():
        return torch.rand(size, generator=generator) < 0.5

    return Step(
        observation=torch.randint(256, (size, 2), generator=generator, dtype=torch.uint8),
        reward=torch.randn(size, generator=generator),
        terminated=flag(),
        truncated=flag(),
        valid=flag(),
        ended=flag(),
        state=torch.randint(9, (size,), generator=generator) if state else None,
    )


@pytest.fixture
def first():
    return torch.full((B, 2), 7, dtype=torch.uint8)


@pytest.fixture
def make(first):
    """Makes an empty record."""

    def make(**options):
        return Record(T, first, torch.tensor([True, False, False, True]), **options)

    return make


def fill(record, state=False):
    """Writes all steps part by part; returns them."""
    generator = torch.Generator().manual_seed(0)
    steps = []
    for t in range(T):
        left, right = random_step(1, generator, state), random_step(3, generator, state)
        # The second part may answer first.
        record.write(t, RIGHT, right)
        record.write(t, LEFT, left)
        steps.append((left, right))
    return steps


def joined(steps, name):
    return torch.stack([torch.cat([getattr(part, name) for part in parts]) for parts in steps])


def test_what_the_parts_answered_stands_side_by_side(make, first):
    record = make()
    steps = fill(record)
    trajectory = record.trajectory(signs=[], with_value=False)
    assert torch.equal(trajectory.observation[0], first)
    assert torch.equal(trajectory.observation[1:], joined(steps, "observation"))
    for name in ("reward", "terminated", "truncated", "valid"):
        assert torch.equal(getattr(trajectory, name), joined(steps, name)), name
    assert trajectory.observation.dtype == torch.uint8


def test_a_step_is_read_back_once_all_parts_have_answered(make):
    record = make()
    steps = fill(record)
    for t in range(T):
        step = record.step(t)
        for name in ("observation", "reward", *KINDS):
            assert torch.equal(getattr(step, name), joined(steps, name)[t]), name


def test_the_sign_of_rewards_is_for_the_learner_and_the_log_has_them_raw(make):
    record = make()
    raw = joined(fill(record), "reward")
    assert torch.equal(record.trajectory(signs=[slice(None)], with_value=False).reward, raw.sign())
    assert torch.equal(record.step(1).reward, raw[1])


def test_what_the_agent_chose_is_kept_with_what_it_began_with(make):
    core_state = torch.randn(B, 5)
    record = make(core_state=core_state)
    fill(record)
    record.action[:] = torch.arange(T * B).view(T, B)
    record.log_probability[:] = -1.5
    record.value[:] = torch.arange((T + 1) * B).view(T + 1, B).float()
    trajectory = record.trajectory(signs=[], with_value=True)
    assert torch.equal(trajectory.action, torch.arange(T * B).view(T, B))
    assert (trajectory.log_probability == -1.5).all()
    assert torch.equal(trajectory.value[-1], torch.tensor([12.0, 13.0, 14.0, 15.0]))
    assert torch.equal(trajectory.core_state, core_state)
    assert trajectory.episode_start.tolist() == [True, False, False, True]


def test_what_was_not_recorded_is_not_there(make):
    record = make()
    fill(record)
    trajectory = record.trajectory(signs=[], with_value=False)
    assert trajectory.value is trajectory.state is trajectory.core_state is None


def test_the_cells_of_a_gridworld_are_kept_from_the_first_on(make):
    first = torch.tensor([1, 2, 3, 4])
    record = make(state=first)
    steps = fill(record, state=True)
    trajectory = record.trajectory(signs=[], with_value=False)
    assert torch.equal(trajectory.state, torch.cat([first[None], joined(steps, "state")]))
