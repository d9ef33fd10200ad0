"""Options as a JSON file holds them, checked as strictly as those of a command line.

`msgspec` compares each value with the type of its option; whatever does not fit is named by its
path in the file, as `run.threads`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

import msgspec

from configs.numbers import check_number
from gridworld.options import OptionError

Options = TypeVar("Options")


class MisfitError(ValueError):
    """Something in a file fits no option; the message begins with its path."""


def section(content: Any, path: str) -> Mapping[str, Any]:
    """A part of a file that has names and values.

    Args:
        content: of the file, or of the section around it.
        path: of the part; empty for the whole file.

    Raises:
        MisfitError: it has none.
    """
    if not isinstance(content, dict):
        raise MisfitError(f"{path or 'the file'} must hold names and values, not {_short(content)}")
    return content


def filled(kind: type[Options], content: Any, path: str, retired: Collection[str] = ()) -> Options:
    """Makes a dataclass from a section; options that it lacks have their defaults.

    Args:
        kind: the dataclass; those in it are sections of this one.
        content: the section.
        path: of the section in the file.
        retired: names that mean nothing any more.

    Raises:
        MisfitError: a name is unknown, or a value is none that the option can have.
    """
    hints = get_type_hints(kind)  # without what is noted for the command line
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in section(content, path).items():
        place = f"{path}.{name}" if path else name
        if name in retired:
            continue
        if name not in known:
            raise MisfitError(f"{place} is no option here")
        values[name] = converted(hints[name], value, place)
    try:
        return kind(**values)
    except OptionError as error:
        raise MisfitError(f"{path}.{error.sentence(str)}".rstrip(".")) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise MisfitError(f"{path}: {error}".rstrip(".")) from error


def converted(hint: Any, value: Any, place: str) -> Any:
    """The value of an option, as its type has it; lists become tuples.

    Args:
        hint: the type.
        value: as JSON has it.
        place: its path in the file.

    Raises:
        MisfitError: it is not of this type, or a number that no option can have.
    """
    if hasattr(hint, "__dataclass_fields__"):
        return filled(hint, value, place)
    try:
        made = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        # What is wrong inside of it, as in the second number of several, has a path already.
        text, _, inner = str(error).partition(" - at `$")
        raise MisfitError(f"{place}{inner.rstrip('`')}: {text[:1].lower()}{text[1:]}") from error
    except TypeError:  # a plugin's own type, which JSON knows nothing of
        made = tuple(value) if isinstance(value, list) else value
    try:
        check_number(place, place.rpartition(".")[2], made)
    except ValueError as error:
        raise MisfitError(str(error).rstrip(".")) from error
    return made


def paths(content: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all sections and values of a file."""
    for name, value in content.items():
        place = f"{path}.{name}" if path else name
        yield place
        if isinstance(value, Mapping):
            yield from paths(value, place)


COUNT = "options"
"""Where a file says how many paths it has, by which a missing one is noticed: only a file that
an earlier version wrote lacks options that came later."""


def counted(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is written to a file: the content, and how many paths it has."""
    return {**content, COUNT: sum(1 for _ in paths(content))}


def check_count(content: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuses a file that has lost a value since it was written.

    Args:
        content: of the file.
        expected: what a file of these options holds today.

    Raises:
        MisfitError: it has; names what is missing.
    """
    if COUNT not in content:
        return
    found = [path for path in paths(content) if path != COUNT]
    if content[COUNT] == len(found) and type(content[COUNT]) is int:
        return
    missing = [path for path in paths(expected) if path not in found]
    what = f"{missing[0]} is missing" if missing else f"it has {len(found)} {COUNT}"
    raise MisfitError(f"{what}; {_short(content[COUNT])} were written")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 20 else f"{text[:20]}..."
