from dataclasses import replace

import torch

from experiments.sweep.arms import Teaching, pairs, teacher_policies, teachings
from gridworld import evaluate, optimal_values

CPU = torch.device("cpu")


def best(worlds):
    return optimal_values(worlds, 0.99).gather(1, worlds.start_cell[:, None]).squeeze(1)


def worth(worlds, policy):
    return evaluate(worlds, policy, 0.99).expected_return


def taught(config):
    before, after = pairs(config, CPU)
    policies = teacher_policies(config, before, after, seed=0)
    return before, after, dict(zip(teachings(config), policies, strict=True))


def test_a_pair_differs_in_its_positive_rewards_alone(tiny):
    before, after = pairs(tiny, CPU)
    assert len(before) == len(after) == 3
    changed = before.kind != after.kind
    assert changed.any(1).all()
    # Where they differ, each holds a positive reward or nothing.
    for worlds in (before, after):
        assert ((worlds.reward[changed] > 0) | (worlds.kind[changed] == 0)).all()


def test_a_greedy_teacher_is_perfect_in_the_world_it_knows(tiny):
    before, after, policies = taught(tiny)
    cross, same = policies[Teaching("cross", 0.0)], policies[Teaching("same", 0.0)]
    torch.testing.assert_close(worth(before, cross), best(before))
    torch.testing.assert_close(worth(after, same), best(after))
    assert (worth(after, cross) < best(after) - 0.01).any()


def test_a_warm_teacher_is_less_decided(tiny):
    _, _, policies = taught(tiny)
    cold, warm = policies[Teaching("same", 0.0)], policies[Teaching("same", 1.0)]
    assert warm.amax(-1).mean() < cold.amax(-1).mean()
    assert (warm > 0).all()


def test_a_teacher_that_learnt_knows_less_than_one_that_solved(tiny):
    config = replace(tiny, teacher="q-learning", teacher_steps=500)
    _, after, policies = taught(config)
    learnt = policies[Teaching("same", 0.0)]
    worse = worth(after, learnt)
    assert (worse <= best(after) + 1e-9).all()
    # It has learnt something all the same: no random policy does half as well here.
    assert worse.mean() > 0.5 * best(after).mean()
    again = teacher_policies(config, after, after, seed=0)[
        teachings(config).index(Teaching("same", 0.0))
    ]
    assert torch.equal(learnt, again)
