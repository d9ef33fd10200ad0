"""Mistakes of the user: one sentence that names the flag and the cure, exit code 2."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UsageError(ValueError):
    """Something the user can put right; the message is all they need to see."""


def ranked(wanted: str, names: Iterable[str]) -> list[str]:
    """Sorts names by likeness to what was typed, the likest first."""
    return sorted(names, key=lambda name: -SequenceMatcher(None, wanted, name).ratio())


def nearest(wanted: str, names: Iterable[str]) -> str:
    """The name most like what was typed."""
    return ranked(wanted, names)[0]


def nearest_first(wanted: str, names: Iterable[str]) -> str:
    """Lists names for an error message, the likeliest meant one first."""
    known = ranked(wanted, names)
    return " or ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else known[0]
