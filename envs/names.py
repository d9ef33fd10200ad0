"""Names of environments and protocols, and the seeds of parallel environments."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from difflib import SequenceMatcher
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium
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


PACKAGES: Mapping[str, str] = {
    "minigrid-": "minigrid",
    "babyai-": "minigrid",
    "minatar/": "minatar",
    "miniworld-": "miniworld",
    "ale/": "ale_py",
    "highway-": "highway_env",
    "flappybird-": "flappy_bird_gymnasium",
    "vizdoom": "vizdoom.gymnasium_wrapper",
}
"""How the ids of well-known packages begin, in lower case, and the module that registers them."""

ENTRY_POINTS = "gymnasium.envs"
"""By which packages told Gymnasium what to call to register their ids, until it stopped asking."""


@runtime_checkable
class Options(Protocol):
    """Any dataclass of options that all have a default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def canonical(name: str, names: Iterable[str]) -> str | None:
    """Finds `name` in `names` whatever its case, and returns it as spelt there.

    A name that is spelt exactly so is found, even where others differ from it in case only.

    Raises:
        ValueError: several names differ from it in case only.
    """
    alike = {known for known in names if known.lower() == name.lower()}
    if name in alike or not alike:
        return name if alike else None
    only(name, sorted(alike))
    return alike.pop()


def only(name: str, alike: Sequence[str]) -> None:
    """Refuses a name for which several names stand that differ in case only.

    Args:
        name: as typed.
        alike: the names it may mean.

    Raises:
        ValueError: they are more than one.
    """
    if len(alike) > 1:
        raise ValueError(
            f"'{name}' may be {' or '.join(alike)}, which differ in upper and lower case: type it "
            "exactly."
        )


def nearest(name: str, names: Iterable[str], count: int | None = 3) -> list[str]:
    """Ranks `names`, the most similar to `name` first; of two equals the later version.

    Args:
        name: as typed.
        names: that are known.
        count: how many to return; None for all.
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


def comes_with_package(name: str) -> bool:
    """Whether a name says which module registers it: `module:Id`, or a well-known package's id."""
    return ":" in name or _package(name) is not None


def _package(name: str) -> str | None:
    return next((PACKAGES[start] for start in PACKAGES if name.lower().startswith(start)), None)


def locate(name: str) -> str:
    """Finds an id, and imports the module that registers it where that is necessary.

    Args:
        name: a registered id, `module:Id`, or the id of a well-known package.

    Returns:
        The name with the id as it is registered; a module before it stays.

    Raises:
        ValueError: the id is unknown, or the module is missing or cannot be imported.
    """
    module, colon, wanted = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
    known = None if colon else canonical(name, gymnasium.registry)
    if known is not None:
        return known
    package = module if colon else _package(name)
    if package is None:
        if ":" in name:
            raise ValueError(f"'{name}' is no environment: write it as module:Id.")
        likely = ", ".join(nearest(name, gymnasium.registry))
        raise ValueError(f"Unknown Gymnasium environment '{name}': did you mean {likely}?")
    found = _import_id(package, wanted)
    return f"{module}{colon}{found}"


def _import_id(module: str, wanted: str) -> str:
    """Imports a module that registers an id, and returns the id as it is registered."""
    cure = f"then choose {module}:{wanted}"
    if not wanted or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"'{module}:{wanted}' is no environment: write it as module:Id.")
    before = set(gymnasium.registry)
    try:
        importlib.import_module(module)
        if wanted.lower() not in map(str.lower, gymnasium.registry):
            for point in entry_points(group=ENTRY_POINTS):
                if point.module.partition(".")[0] == module.partition(".")[0]:
                    point.load()()
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if f"{module}.".startswith(f"{missing}."):
            package = missing.partition(".")[0].replace("_", "-")
            known = f" (pip install {package})" if module in PACKAGES.values() else ""
            raise ValueError(
                f"{wanted} comes with the module {module}, which is not installed: install it"
                f"{known}, or add its folder to PYTHONPATH, {cure}."
            ) from error
        raise ValueError(
            f"{wanted} comes with the module {module}, which needs the package "
            f"{missing.partition('.')[0]}: install that, {cure}."
        ) from error
    except (Exception, SystemExit) as error:  # somebody else's code may fail in any way
        raise ValueError(
            f"{wanted} comes with the module {module}, which cannot be imported "
            f"({type(error).__name__}: {sentence(error)}): mend it, {cure}."
        ) from error
    found = canonical(wanted, gymnasium.registry)
    if found is None:
        added = set(gymnasium.registry) - before or set(gymnasium.registry)
        likely = ", ".join(nearest(wanted, added))
        raise ValueError(
            f"The module {module} registers no environment '{wanted}': did you mean {likely}?"
        )
    return found


def sentence(error: BaseException) -> str:
    """An error's message in one line without a full stop, or at least its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
