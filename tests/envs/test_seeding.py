import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.names import separated_seeds


@given(seed=st.integers(0, 2**63 - 1), count=st.integers(1, 50))
def test_seeds_are_distinct_and_fit_a_signed_32_bit_integer(seed, count):
    seeds = separated_seeds(seed, count)
    assert len(set(seeds)) == len(seeds) == count
    assert all(0 <= s < 2**31 for s in seeds)


def test_seeds_stay_distinct_where_the_hash_repeats_itself():
    # 60,000 words of 31 bits: 60,000 ** 2 / 2 ** 32 = 0.8 pairs are expected to collide,
    # and under seed 0 one does.
    assert len(set(separated_seeds(0, 60_000))) == 60_000


def test_the_same_seed_gives_the_same_seeds_and_more_of_them_extend_fewer():
    assert separated_seeds(7, 3) == separated_seeds(7, 3) == separated_seeds(7, 5)[:3]


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**63 - 2])
def test_adjacent_seeds_share_no_environment(seed):
    shared = set(separated_seeds(seed, 100)) & set(separated_seeds(seed + 1, 100))
    assert not shared


def test_seeds_that_agree_in_their_lower_bits_share_no_environment():
    # Were a seed cut to 32 or 62 bits, these would be alike.
    for bits in (31, 32, 62):
        assert not set(separated_seeds(7, 100)) & set(separated_seeds(7 + 2**bits, 100))
