"""Names: of environments, as a person typed them, and of the protocol they are played by."""

from collections.abc import Iterable
from dataclasses import Field, fields
from difflib import SequenceMatcher
from typing import Any, ClassVar, Protocol, runtime_checkable


@runtime_checkable
class Options(Protocol):
    """Any dataclass of options that all have a default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def canonical(name: str, names: Iterable[str]) -> str | None:
    """Finds `name` in `names` whatever its case, and returns it as spelt there."""
    return {known.lower(): known for known in names}.get(name.lower())


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Ranks `names` by likeness to `name`, the likest first; of two alike the later version."""

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
