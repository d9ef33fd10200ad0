"""Random numbers by counting: against Wellons' C code, and as random as they should be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld.hashing import Keys, Stream, mix


def lowbias32(value):
    """Wellons' C function, with Python's unbounded integers."""
    value ^= value >> 16
    value = value * 0x7FEB352D % 2**32
    value ^= value >> 15
    value = value * 0x846CA68B % 2**32
    return value ^ value >> 16


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5))
def test_the_mixer_is_wellons_own(values):
    assert mix(torch.tensor(values)).tolist() == [lowbias32(value) for value in values]


def keys(seeds, world_ids, *counters):
    return Keys.of(
        torch.tensor(seeds), torch.tensor(world_ids), *(torch.tensor(c) for c in counters)
    )


@pytest.mark.parametrize(
    "other",
    [
        keys([8], [3], [0]),
        # The high word of a seed counts too.
        keys([7 + 2**40], [3], [0]),
        keys([7], [4], [0]),
        keys([7], [3], [1]),
    ],
)
def test_every_counter_changes_all_numbers(other):
    bits = keys([7], [3], [0]).bits(Stream.WALLS, 500)
    assert not (other.bits(Stream.WALLS, 500) == bits).any()
    assert not (keys([7], [3], [0]).bits(Stream.CONTENTS, 500) == bits).any()


def test_a_world_has_the_same_numbers_in_every_batch():
    together = keys([7, 7, 9], [3, 4, 3]).bits(Stream.START, 50)
    alone = [keys([s], [w]).bits(Stream.START, 50) for s, w in [(7, 3), (7, 4), (9, 3)]]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[:, :20], keys([7, 7, 9], [3, 4, 3]).bits(Stream.START, 20))


def test_numbers_are_uniform_and_do_not_depend_on_their_neighbours():
    count = 400
    draw = keys([1] * count, list(range(count))).uniform(Stream.WALLS, count).double()
    assert draw.min() >= 0
    assert draw.max() < 1
    # 160,000 draws in 16 bins: the chi-squared of 15 degrees has a mean of 15, sigma 5.5.
    counts = draw.flatten().histc(16, 0, 1)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 15 + 5 * 5.5
    # A correlation of 160,000 pairs has a sigma of 1 / 400.
    for shift, axis in [(1, 0), (1, 1), (7, 0), (7, 1)]:
        pairs = torch.stack([draw.flatten(), draw.roll(shift, axis).flatten()])
        assert abs(pairs.corrcoef()[0, 1]) < 5 / 400


def test_the_same_numbers_on_every_machine():
    # Of a world made today and of one made next year; from the slow formula below.
    low, high = 0x243F6A88, 0x85A308D3
    for word in (5, 0, 2):
        low, high = lowbias32(low ^ word), lowbias32(high ^ word)
    low, high = lowbias32(low ^ 1), lowbias32(high ^ 1)
    expected = [lowbias32(lowbias32(low ^ cell) ^ high) for cell in range(4)]
    assert keys([5], [2]).bits(Stream.CONTENTS, 4).tolist() == [expected]


def test_ranks_order_the_candidates_and_leave_the_others_last():
    candidates = torch.tensor([[True, False, True, True, False], [False] * 4 + [True]])
    rank = keys([0, 0], [0, 1]).rank(Stream.START, candidates)
    assert sorted(rank[0].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(rank[0, candidates[0]].tolist()) == [0, 1, 2]
    assert rank[1, 4] == 0


def test_every_candidate_is_as_likely_to_be_first():
    count = 3000
    candidates = torch.tensor([True, True, False, True]).expand(count, -1)
    first = keys([0] * count, list(range(count))).rank(Stream.START, candidates).argmin(1)
    # 3,000 draws of 1/3: sigma = sqrt(3000 * 2/9) = 25.8.
    counts = first.bincount(minlength=4)
    assert counts[2] == 0
    assert ((counts[[0, 1, 3]] - 1000).abs() < 5 * 25.8).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_draws_the_same_numbers():
    seed, world = torch.full((9,), 2**40 + 5), torch.arange(9)
    expected = Keys.of(seed, world).bits(Stream.WALLS, 200)
    assert torch.equal(Keys.of(seed.cuda(), world.cuda()).bits(Stream.WALLS, 200).cpu(), expected)
