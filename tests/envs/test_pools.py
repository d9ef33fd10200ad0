"""Several environments as one, on Catch: with two boards each, three parts."""

import numpy as np
import pytest
import torch

from envs.catch import CatchConfig
from envs.emulators import usual_threads
from envs.joined import VecEnvParts

K, B = 3, 2
CPU = torch.device("cpu")


def boards(seed, **options):
    return CatchConfig(rows=4, **options).build("Catch", B, seed, CPU, render=True)


@pytest.fixture
def pools():
    return VecEnvParts([boards(seed) for seed in range(K)])


@pytest.fixture
def alone():
    """The same boards, each part by itself."""
    return [boards(seed) for seed in range(K)]


def test_the_whole_is_the_parts_one_after_the_other(pools, alone):
    assert (pools.spec.num_envs, len(pools.parts)) == (K * B, K)
    assert torch.equal(pools.reset(), torch.cat([env.reset() for env in alone]))
    generator = torch.Generator().manual_seed(0)
    for action in torch.randint(3, (9, K * B), generator=generator):
        step = pools.step(action)
        steps = [env.step(share) for env, share in zip(alone, action.split(B), strict=True)]
        for name in ("observation", "reward", "terminated", "truncated", "valid", "ended"):
            expected = torch.cat([getattr(single, name) for single in steps])
            assert torch.equal(getattr(step, name), expected)
        assert step.state is None


def test_a_wrong_action_for_the_last_part_is_refused_before_the_first_has_played(pools, alone):
    pools.reset()
    for env in alone:
        env.reset()
    for wrong in (torch.tensor([0, 0, 0, 0, 0, 3]), torch.zeros(B, dtype=torch.int64)):
        with pytest.raises(ValueError, match="Catch"):
            pools.send(wrong)
    stay = torch.ones(K * B, dtype=torch.int64)
    expected = torch.cat([env.step(stay[:B]).observation for env in alone])
    assert torch.equal(pools.step(stay).observation, expected)


def test_a_picture_is_that_of_the_part_and_of_the_environment_within(pools, alone):
    pools.reset()
    for part, env in enumerate(alone):
        env.reset()
        for inside in range(B):
            assert np.array_equal(pools.render(part * B + inside), env.render(inside))
    assert len({pools.render(index).tobytes() for index in range(K * B)}) > 1
    for index in (-1, K * B):
        with pytest.raises(AssertionError, match=f"there is no environment {index}"):
            pools.render(index)


def test_closing_closes_every_part(monkeypatch):
    closed = []
    parts = [boards(seed) for seed in range(K)]
    for index, part in enumerate(parts):
        monkeypatch.setattr(part, "close", lambda index=index: closed.append(index))
    VecEnvParts(parts).close()
    assert closed == list(range(K))


def test_parts_that_differ_are_no_pools():
    with pytest.raises(AssertionError, match="the parts must be alike"):
        VecEnvParts([boards(0), boards(1, columns=7)])


@pytest.mark.parametrize(
    ("num_envs", "cores", "host", "gpu"),
    # 64 games on 14 threads take five rounds, and so do they on 13.
    [(64, 16, 16, 13), (16, 16, 16, 8), (4, 16, 4, 4), (8, 2, 2, 1), (8, 1, 1, 1)],
)
def test_next_to_a_gpu_emulators_leave_cores_to_the_thread_that_launches_its_work(
    num_envs, cores, host, gpu
):
    found = [usual_threads(num_envs, cores, torch.device(name)) for name in ("cpu", "cuda")]
    assert found == [host, gpu]
