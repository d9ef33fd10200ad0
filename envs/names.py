"""Names of environments and protocols, and the seeds of parallel environments."""

from collections.abc import Iterable
from dataclasses import Field, fields
from difflib import SequenceMatcher
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

_INT32_BITS = 31
"""envpool keeps seeds in a signed 32-bit integer."""


def separated_seeds(seed: int, count: int) -> list[int]:
    """Hashes `seed` into distinct, non-negative seeds, one per environment.

    Given one seed, envpool and Gymnasium seed environment i with seed + i.  Runs with
    adjacent seeds would then share all environments but one, and their scores would not be
    independent.  NumPy's `SeedSequence` avoids that.  A longer list extends a shorter one.

    Args:
        seed: the run's seed, not negative.
        count: how many seeds.
    """
    # Twice as many words as needed, for the rare word that occurs twice.
    words = np.random.SeedSequence(seed).generate_state(2 * count, np.uint32)
    distinct = dict.fromkeys(int(word) >> (32 - _INT32_BITS) for word in words)
    return list(distinct)[:count]


@runtime_checkable
class Options(Protocol):
    """Any dataclass of options that all have a default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def canonical(name: str, names: Iterable[str]) -> str | None:
    """Finds `name` in `names` whatever its case, and returns it as spelt there."""
    return {known.lower(): known for known in names}.get(name.lower())


def nearest(name: str, names: Iterable[str], count: int | None = 3) -> list[str]:
    """Ranks `names` by likeness to `name`, the likest first; of two alike the later version.

    Args:
        name: as typed.
        names: that are known.
        count: how many to return; none: all.
    """

    def likeness(known: str) -> tuple[float, str]:
        return SequenceMatcher(None, name.lower(), known.lower()).ratio(), known

    return sorted(names, key=likeness, reverse=True)[:count]


def departures(options: Options, usual: Options | None = None) -> str:
    """Names what makes scores incomparable: the options that differ from the usual ones.

    Options that a dataclass does not compare are left out, since they change no score.

    Args:
        options: in use.
        usual: of the same class; None for the defaults.
    """
    return "".join(
        f"+{option.name}={getattr(options, option.name)}"
        for option in fields(options)
        if option.compare
        and getattr(options, option.name)
        != (option.default if usual is None else getattr(usual, option.name))
    )
