"""Seeds for environments whose random streams must not overlap.

Given one seed, envpool and Gymnasium seed environment i with seed + i.  Runs with
adjacent seeds would then share all environments but one, and their scores would
not be independent.  Hence every environment gets a seed of its own, hashed from
the run's seed by NumPy's `SeedSequence`.
"""

import numpy as np

_INT32_BITS = 31
"""envpool keeps seeds in a signed 32-bit integer."""


def separated_seeds(seed: int, count: int) -> list[int]:
    """Hashes `seed` into distinct, non-negative 32-bit seeds; more of them extend fewer.

    Args:
        seed: the run's seed, not negative.
        count: how many seeds, one per environment.
    """
    # Twice as many words as needed, for the rare word that occurs twice.
    words = np.random.SeedSequence(seed).generate_state(2 * count, np.uint32)
    distinct = dict.fromkeys(int(word) >> (32 - _INT32_BITS) for word in words)
    return list(distinct)[:count]
