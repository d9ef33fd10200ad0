"""Mistakes of the user: one sentence that names the flag and the cure, exit code 2."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UsageError(ValueError):
    """Something the user can put right; the message is all they need to see."""


def nearest_first(wanted: str, names: Iterable[str]) -> str:
    """Lists names for an error message, the likeliest meant one first."""
    ranked = sorted(names, key=lambda name: -SequenceMatcher(None, wanted, name).ratio())
    return " or ".join([", ".join(ranked[:-1]), ranked[-1]]) if len(ranked) > 1 else ranked[0]
