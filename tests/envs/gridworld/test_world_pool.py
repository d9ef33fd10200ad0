from functools import partial

import pytest
import torch
from torch.testing import assert_close

from envs.gridworld import world_pool as grid_pool
from envs.gridworld.world_pool import TEACHERS, pool
from gridworld import (
    FIRST_TERMINAL,
    WALL,
    QLearningConfig,
    WorldConfig,
    action_values,
    modified,
    optimal_values,
)

CPU = torch.device("cpu")
SMALL = {"height": 6, "width": 7, "terminal_probability": 0.05}


def build(count=5, first=0, without_copies_of=0, seed=0, **options):
    return pool(WorldConfig(**SMALL | options), seed, first, count, without_copies_of, CPU)


def slow_best(config, kinds, cell, steps):
    """What the best policy scores in so many steps, by trying all actions, cell by cell."""
    if steps == 0 or kinds[cell] >= FIRST_TERMINAL:
        return 0.0
    after = []
    for offset in (-config.width, 1, config.width, -1):
        target = cell if kinds[cell + offset] == WALL else cell + offset
        future = slow_best(config, kinds, target, steps - 1)
        after.append(
            config.kind_rewards[kinds[target]] + (1 - config.termination_probability) * future
        )
    noise = config.action_noise
    return max((1 - noise) * own + noise * sum(after) / 4 for own in after)


def test_worlds_are_made_once():
    assert build() is build()
    assert build() is not build(first=1)


def test_a_world_is_the_same_in_every_pool_that_holds_it():
    some, others = build(count=5).worlds, build(count=4, first=3).worlds
    assert torch.equal(some.kind[3:], others.kind[:2])
    assert others.world_id.tolist() == [3, 4, 5, 6]


def test_copies_of_the_worlds_before_are_left_out_and_nothing_else():
    # Two cells beside the start: most worlds of this size are equal to some other.
    tiny = {"height": 3, "width": 5, "terminal_rewards": (1.0,), "terminal_probability": 0.3}
    before, after = build(count=6, **tiny).worlds, build(count=30, first=6, **tiny).worlds
    left = build(count=30, first=6, without_copies_of=6, **tiny).worlds
    seen = {
        (tuple(k.tolist()), int(s)) for k, s in zip(before.kind, before.start_cell, strict=True)
    }
    expected = [
        int(number)
        for number, kind, start in zip(after.world_id, after.kind, after.start_cell, strict=True)
        if (tuple(kind.tolist()), int(start)) not in seen
    ]
    assert 0 < len(expected) < 30
    assert left.world_id.tolist() == expected


def test_a_pool_of_copies_alone_is_refused():
    only = {"height": 3, "width": 4, "terminal_rewards": (1.0,), "terminal_probability": 0.9}
    with pytest.raises(ValueError, match="All of 2 worlds equal one of the 50 before: use larger"):
        build(count=2, first=50, without_copies_of=50, **only, penalty_probability=0.0)


def test_the_optimum_under_a_max_episode_steps_is_that_of_trying_everything():
    made = build(count=4, max_episode_steps=4, termination_probability=0.1)
    expected = [
        slow_best(made.worlds.config, kinds, cell, 4)
        for kinds, cell in zip(
            made.worlds.kind.tolist(), made.worlds.start_cell.tolist(), strict=True
        )
    ]
    assert len(set(expected)) > 1
    assert_close(made.optimum, torch.tensor(expected))


def test_the_optimum_without_a_max_episode_steps_is_that_of_a_very_long_one():
    # One episode in 10**7 lasts longer than 150 steps.
    free = build(termination_probability=0.1).optimum
    limited = build(termination_probability=0.1, max_episode_steps=150).optimum
    assert_close(free, limited)


def test_where_an_episode_may_last_for_ever_no_optimum_is_told():
    assert build(termination_probability=0.0).optimum is None


def test_the_usual_teacher_is_the_optimum_of_each_world():
    made = build()
    table = made.teacher(TEACHERS[0])
    value = optimal_values(made.worlds, 0.99)
    expected = action_values(made.worlds, value, 0.99).flatten(0, 1)
    assert table.dtype == torch.float32
    assert_close(table.double(), expected, rtol=1e-6, atol=1e-6)
    # Greedy in all its best actions: what differs by rounding only is equal.
    best = expected >= expected.amax(-1, keepdim=True) - 1e-9
    assert torch.equal(table == table.amax(-1, keepdim=True), best)
    assert (best.sum(-1) > 1).any()


def test_a_teacher_values_as_the_worlds_discount():
    patient, hasty = build().teacher("optimal"), build(discount=0.5).teacher("optimal")
    assert patient.sum() > hasty.sum()


@pytest.mark.parametrize("change", ["redraw", "swap", "remove"])
def test_teachers_of_changed_worlds_are_right_there(change):
    made = build()
    others = modified(made.worlds, change)
    expected = action_values(others, optimal_values(others, 0.99), 0.99).flatten(0, 1)
    table = made.teacher(change)
    assert_close(table.double(), expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(table, made.teacher("optimal"))


def test_worlds_that_cannot_be_changed_say_so():
    with pytest.raises(ValueError, match="swap needs two positive terminal_rewards"):
        build(terminal_rewards=(1.0, -1.0)).teacher("swap")


def test_a_learnt_teacher_is_the_same_each_time_and_nears_the_optimum(monkeypatch):
    quick = partial(QLearningConfig, steps=1500)
    monkeypatch.setattr(grid_pool, "QLearningConfig", quick)
    made = build(count=3)
    table = made.teacher("q-learning")
    assert torch.equal(table, made.teacher("q-learning"))
    assert table.shape == (3 * 6 * 7, 4)
    start, optimal = made.worlds.start, made.teacher("optimal")
    assert_close(table[start].amax(-1), optimal[start].amax(-1), rtol=0.1, atol=0.2)
