"""From flags with several values to the runs of a study.

Every flag of `train.py` may take several values, and a study is their product.  What does not
apply to a run is dropped (there is no gate without a head or a second task, and no option of a
head that the run lacks), and runs that become alike are one.  tyro reads all values of a flag at
once for each set of components, and the components' own checks see every combination.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from agents.gates import RESERVED
from configs import choice as plugins
from configs.choice import DEFAULT_ENV, NONE, Choice, choose, component, has_phase
from configs.cli import refuse_foreign_options
from configs.errors import UsageError, nearest
from configs.parsing import Option, options, replaced
from configs.study import Axes, own_flags
from configs.tasks import FAMILY
from configs.training import TrainConfig, flags, from_flags
from envs import PROTOCOLS, find

CHOOSING = ("env", "protocol", "algo", "torso", "core", "aux", "gate")
SHORT = {"teacher": "aux.distill.teacher", "env-backend": "env.backend"}
WEIGHING = tuple(f"gate.{name}" for name in RESERVED)
"""Options of all gates that compare gradients; `sum` compares nothing."""
FIXED = {
    **dict.fromkeys(("device", "threads"), "it says where a study computes"),
    **dict.fromkeys(
        ("checkpoint-minutes", "log-steps", "picture-steps", "max-skipped"),
        "it says what a run writes, not what it learns",
    ),
    **dict.fromkeys(("deterministic", "compile"), "it says how a run computes"),
}
"""Flags that take one value, and why."""

LONGEST_NAME = 120
"""Characters; a file system takes 255 bytes."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a study."""

    name: str
    """Of its folder; the same whenever the study is expanded."""
    config: TrainConfig
    words: tuple[str, ...]
    """Its flags, for `train.py`, without --run-dir."""


def expand(axes: Axes, pins: Mapping[str, str], named: Collection[str] = ()) -> list[Planned]:
    """All runs of a grid, the seeds of one combination after one another.

    Args:
        axes: the values of each flag.
        pins: what a flag has in every run where it is not given, or given as `auto`.
        named: flags that are part of the names, like those with several values.

    Returns:
        The runs, each once; names repeat where other options differ (see `distinct`).

    Raises:
        UsageError: with one sentence for the user.
    """
    given = spelt_out(axes)
    modules = given.pop("plugin", ())
    plugins.load_installed()
    plugins.load(modules)
    given = _checked(given)
    shown = {*named, *(flag for flag, words in given.items() if len(words) > 1)}
    choices = _choices(given)
    rest = {flag: words for flag, words in given.items() if flag not in CHOOSING}
    tables = {choice: _table(choice) for choice, _ in choices}
    for flag, words in rest.items():
        if not any(_option(table, flag) for table in tables.values()):
            _refuse(flag, words, *choices[0])
    rest = _pinned(rest, pins)
    return [
        run
        for choice, words in choices
        for run in _combinations(choice, words, tables[choice], rest, modules, shown)
    ]


def applicable(axes: Axes) -> Axes:
    """The flags that have an effect in one combination of components.

    Args:
        axes: the values of each flag, one for those that choose components.
    """
    given = spelt_out(axes)
    kept = _applicable({flag: given[flag][0] for flag in CHOOSING if flag in given})
    table = _table(choose(_choosing_words(kept))[0])
    return {
        flag: words
        for flag, words in given.items()
        if flag in kept or flag == "plugin" or (flag not in CHOOSING and _option(table, flag))
    }


def option_of(axes: Axes, flag: str) -> Option | None:
    """The option that a flag sets in the runs of a grid; None if no run has it.

    Args:
        axes: the values of each flag; those that choose components are looked at.
        flag: without dashes.
    """
    given = spelt_out(axes)
    plugins.load_installed()
    plugins.load(given.get("plugin", ()))
    tables = (_table(choice) for choice, _ in _choices(_checked(given)))
    return next((option for table in tables if (option := _option(table, flag))), None)


def spelt_out(axes: Axes) -> dict[str, tuple[str, ...]]:
    """The values of each flag by its whole name, such as `aux.distill.teacher` for `teacher`.

    Raises:
        UsageError: a flag is given by both names.
    """
    found = dict(axes)
    for short, long in SHORT.items():
        if short in found and long in found:
            raise UsageError(f"--{short} is short for --{long}: give one of the two.")
        if short in found:
            found[long] = found.pop(short)
    return found


def _checked(axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Refuses what a study as a whole says, and several values for what cannot vary."""
    if "run-dir" in axes:
        raise UsageError("--run-dir is one run's: give the folder of the study by --output.")
    for flag, words in axes.items():
        if flag in CHOOSING and not words:
            raise UsageError(f"--{flag} needs a value.")
        if flag in FIXED and len(set(words)) > 1:
            raise UsageError(
                f"--{flag} cannot vary within a study, because {FIXED[flag]}: give one value."
            )
    # Names of components may be spelt in two ways.
    for flag in set(axes) & set(CHOOSING) - {"env"}:
        axes[flag] = tuple(dict.fromkeys(word.replace("-", "_") for word in axes[flag]))
    return axes


def _choices(axes: Axes) -> list[tuple[Choice, tuple[str, ...]]]:
    """The sets of components of a grid, each with the flags that choose it."""
    choosing = {flag: axes[flag] for flag in CHOOSING if flag in axes}
    found: dict[Choice, tuple[str, ...]] = {}
    used: set[str] = set()
    for combination in product(*choosing.values()):
        given = dict(zip(choosing, combination, strict=True))
        kept = _applicable(given)
        used |= kept.keys()
        words = tuple(_choosing_words(kept))
        choice, _ = choose(words)
        found.setdefault(choice, words)
    for flag in choosing:
        if flag not in used:
            # No run has it: the sentence is that of a single run.
            choose(list(_choosing_words({each: choosing[each][0] for each in choosing})))
    return list(found.items())


def _applicable(given: Mapping[str, str]) -> dict[str, str]:
    """The choosing flags that have an effect with each other."""
    kept = dict(given)
    try:
        _, family = find(kept.get("env", DEFAULT_ENV))
    except ValueError:
        choose(_choosing_words(kept))  # refuses it, and says what is known
        raise
    if not PROTOCOLS.get(family):
        kept.pop("protocol", None)
    if kept.get("aux", NONE) == NONE and "gate" in kept and family != FAMILY:
        gate = kept.pop("gate")
        algo = kept.get("algo")
        # An algorithm may have a phase of its own, which passes the gate.
        if algo is not None and (algo == NONE or has_phase(choose(_choosing_words(kept))[0].algo)):
            kept["gate"] = gate
    return kept


def _choosing_words(given: Mapping[str, str]) -> list[str]:
    words = []
    for flag, word in given.items():
        names = word.split("+") if flag == "aux" else [word]
        words += [f"--{flag}", *names]
    return words


@cache
def _flags(choice: Choice) -> Any:
    return flags(choice)


def _table(choice: Choice) -> dict[str, Option]:
    """The options of a set of components, without those that choose it."""
    table = options(_flags(choice))
    for flag in (*CHOOSING, *SHORT, "plugin", "resume", "run-dir"):
        table.pop(flag, None)
    if choice.gate is not None and getattr(
        component("gate", choice.gate).build(), "one_pass", False
    ):
        for flag in WEIGHING:
            table.pop(flag, None)
    return table


def _option(table: Mapping[str, Option], flag: str) -> Option | None:
    """The option that a flag sets; `--no-compile` sets `compile`."""
    option = table.get(flag)
    if option is None and "no-" in flag:
        path, dot, name = flag.rpartition(".")
        option = table.get(f"{path}{dot}{name.removeprefix('no-')}")
        return option if option is not None and option.kind is bool else None
    return option


def _refuse(flag: str, words: Sequence[str], choice: Choice, choosing: Sequence[str]) -> None:
    """Refuses a flag that no run has, in the words of `train.py`."""
    if choice.gate == "sum" and flag in WEIGHING:
        raise UsageError(f"--{flag} has no effect with --gate sum alone: add another gate.")
    refuse_foreign_options(choice, [f"--{flag}"])
    known = [*(f"--{name}" for name in own_flags()), *(f"--{name}" for name in _table(choice))]
    raise UsageError(
        f"--{flag} is not an option of any of these runs: did you mean {nearest(flag, known)}?"
    )


def _pinned(axes: Axes, pins: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found = dict(axes)
    for flag, value in pins.items():
        words = found.get(flag, ("auto",))
        found[flag] = tuple(value if word in ("auto", "0") else word for word in words)
    return found


@cache
def _values(option: Option, flag: str, words: tuple[str, ...]) -> dict[Any, str]:
    """The values of a flag, each once, and how each was typed."""
    if not words:
        if option.kind is not bool:
            raise UsageError(f"--{flag} needs a value.")
        return {not flag.rpartition(".")[2].startswith("no-"): "true"}
    if option.kind is bool and flag.rpartition(".")[2].startswith("no-"):
        plain = flag.replace("no-", "", 1)
        raise UsageError(f"--{flag} takes no value: write --{plain} true or false.")
    found: dict[Any, str] = {}
    for value, word in zip(option.read(flag, words), words, strict=True):
        found.setdefault(value, word)
    if len(found) > 1 and not option.matters:
        raise UsageError(
            f"--{flag} cannot vary within a study, because it changes no number: give one value."
        )
    return found


def _combinations(
    choice: Choice,
    choosing: tuple[str, ...],
    table: Mapping[str, Option],
    axes: Axes,
    modules: tuple[str, ...],
    shown: Collection[str],
) -> Iterator[Planned]:
    """The runs of one set of components."""
    default = _flags(choice)()
    held: dict[str, tuple[Option, dict[Any, str]]] = {}
    for flag, words in axes.items():
        option = _option(table, flag)
        if option is not None and flag != "seed":
            held[flag] = (option, _values(option, flag, words))
    seeds = list(_values(table["seed"], "seed", axes["seed"])) if "seed" in axes else [1]
    prefix = (*choosing, *(word for module in modules for word in ("--plugin", module)))
    for combination in product(*(values for _, values in held.values())):
        given = dict(zip(held, combination, strict=True))
        changes = {held[flag][0]: value for flag, value in given.items()}
        config = from_flags(choice, replaced(default, changes), modules)
        typed = [word for flag in given for word in _typed(flag, *held[flag], given[flag])]
        name = _name(choice, {flag: held[flag][1][value] for flag, value in given.items()}, shown)
        for seed in seeds:
            run = replaced(config.run, {replace(table["seed"], path=("seed",)): seed})
            yield Planned(
                f"{name}-s{seed}",
                replace(config, run=run),
                (*prefix, *typed, "--seed", str(seed)),
            )


def _typed(flag: str, option: Option, values: Mapping[Any, str], value: Any) -> list[str]:
    """A flag with one value, as `train.py` reads it."""
    if option.kind is bool:
        path, dot, name = flag.rpartition(".")
        return [f"--{path}{dot}{'' if value else 'no-'}{name.removeprefix('no-')}"]
    if isinstance(value, tuple):
        return [f"--{flag}", *values[value].split()]
    return [f"--{flag}", values[value]]


def _name(choice: Choice, given: Mapping[str, str], shown: Collection[str]) -> str:
    """`<env>-<heads>-<gate>`, then what varies in the study."""
    parts = [choice.env, choice.losses, choice.gate or ""]
    others = ("protocol", "algo", "torso", "core")
    parts += [getattr(choice, flag) for flag in others if flag in shown]
    for flag, word in given.items():
        if flag in shown:
            short = flag if flag.count(".") == 0 else flag.partition(".")[2]
            parts.append(f"{short}={Path(word).name if '/' in word else word}")
    name = re.sub(r"[^\w.+=-]", "_", "-".join(part for part in parts if part))
    return shortened(name)


def shortened(name: str) -> str:
    """The name of a file or folder, cut where it is too long, with a digest of the whole."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def distinct(runs: Sequence[Planned]) -> list[Planned]:
    """Keeps each run once, and tells apart by a digest those that would share a folder.

    The first of a name keeps it, so that what is added to a study later renames nothing.
    """
    known: dict[str, str] = {}
    names: set[str] = set()
    found = []
    for run in runs:
        key = _key(run.config)
        if key in known:
            continue
        name = run.name
        if name.lower() in names:  # some file systems do not tell cases apart
            name = f"{name}-{key[:8]}"
        known[key] = name
        names.add(name.lower())
        found.append(replace(run, name=name) if name != run.name else run)
    return found


def _key(config: TrainConfig) -> str:
    # All values print exactly, and heads are in the order of the choice.
    return hashlib.sha256(repr(config).encode()).hexdigest()
