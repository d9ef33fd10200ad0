"""The first pass over the command line: which components a run is made of.

Only the components chosen here have options in the second pass, so that `--help` shows what
matters and an option of anything else is refused. A plugin is a module that registers components
when it is imported (`agents.gates.register` and its like; docs/extending.md shows how); one that is
installed with the entry point group `auxgate.plugins` is always there.
"""

import argparse
import importlib
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from agents import algorithms, gates, heads
from agents.networks import recurrent, torsos
from configs.errors import UsageError, in_flags, nearest_first
from configs.parsing import read
from configs.presets import BY_OBSERVATION, UNKNOWN, preset, usual_torso
from configs.tasks import FAMILY, check_brackets, preset_family, tasks_of
from envs import PROTOCOLS, find, registered

GROUP = "auxgate.plugins"
FLAG = "--plugin"
PACKAGES = ("agents", "configs", "envs", "gridworld")
"""Where a mistake of a plugin may be noticed, but is not made."""


def take(arguments: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Reads the modules that a command line names, and loads them and those installed.

    Returns:
        The modules named, and the other arguments.

    Raises:
        UsageError: one cannot be loaded.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(FLAG, action="append", default=[])
    try:
        given, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    modules = tuple(dict.fromkeys(given.plugin))
    load_installed()
    load(modules)
    return modules, rest


def load_installed() -> None:
    """Imports what the packages installed here have in the entry point group.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    for point in entry_points(group=GROUP):
        _load(point.module, f"the plugin {point.name} that is installed here")


def load(modules: Iterable[str]) -> None:
    """Imports modules that register components; those that were imported before stay as they are.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    for module in modules:
        _load(module, f"{FLAG} {module}")


def _load(module: str, what: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{what}: there is no module {error.name}; install it, or add its folder to "
                "PYTHONPATH."
            ) from error
        raise UsageError(f"{what}: {_sentence(error)}") from error
    except Exception as error:  # somebody else's code may fail in any way
        raise UsageError(f"{what}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """What went wrong in one line, and for mistakes in the code where."""
    if isinstance(error, SyntaxError) and error.filename:  # its text repeats where it is
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})."
    text = " ".join(str(error).split()).rstrip(".")
    # Not where the import is, nor where `register` refuses: the line of the plugin.
    trace = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[1]
    ours = (*(f"{root / name}{os.sep}" for name in PACKAGES), "<frozen", importlib.__file__)
    places = [frame for frame in trace if not frame.filename.startswith(ours)] or trace
    place = places[-1] if not isinstance(error, ValueError) else places[0]
    name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{name}{text} ({place.filename}, line {place.lineno})."


DEFAULT_ENV = "Breakout"
ENVS = "any Atari game, Gridworld, Catch, procgen/coinrun and the like, minigrid/Empty-8x8 and the \
like, envpool/ID, any Gymnasium id; A+B for two tasks in one network"
DEFAULT_GATE = "cosine"
NONE = "none"


@dataclass(frozen=True)
class Choice:
    """The components of a run, by their command-line names."""

    env: str
    """Canonical name of the environment."""
    family: str
    """Which family of environments builds it."""
    algo: str
    torso: str
    aux: tuple[str, ...]
    """Auxiliary heads; none is plain actor-critic."""
    gate: str | None
    """None if neither heads nor a gate are given: there is nothing to weigh, or it is summed."""
    core: str = NONE
    protocol: str = ""
    """By which the games of an Atari run are played; empty where there is none to choose."""

    @property
    def losses(self) -> str:
        """The heads as in the names of runs; `main` where the main loss is alone."""
        return "+".join(self.aux) or ("" if self.family == FAMILY else "main")

    @property
    def preset_family(self) -> str:
        """The family whose preset the run has: of several tasks, that of the first."""
        return preset_family(self.env, self.family)


REGISTRIES: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "algo": algorithms.registered,
    "torso": torsos.registered,
    "core": recurrent.registered,
    "aux": heads.registered,
    "gate": gates.registered,
}
"""By the flag that chooses from it; plugins' components are among them once they are loaded."""


def names(slot: str) -> tuple[str, ...]:
    """The command-line names of the components that a flag chooses from."""
    return tuple(REGISTRIES[slot]())


def component(slot: str, name: str) -> Any:
    """The default config of a component.

    Args:
        slot: the flag that chooses it, of `REGISTRIES`.
        name: of the component.

    Raises:
        ValueError: there is none of this name.
    """
    known = REGISTRIES[slot]()
    if name not in known:
        raise ValueError(f"there is no {slot} {name} here, unless a plugin has it")
    return known[name]


def choose(arguments: Sequence[str]) -> tuple[Choice, list[str]]:
    """Reads the choosing flags and returns the remaining arguments.

    Raises:
        UsageError: a name is unknown, or choices exclude each other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--env", "--protocol", "--algo", "--torso", "--core", "--gate", "--teacher"):
        parser.add_argument(flag, action="append")
    parser.add_argument("--env-backend", "--env_backend", action="append")
    parser.add_argument("--aux", nargs="+", action="extend")
    try:
        given, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    try:
        env, family = find(_once("--env", given.env) or DEFAULT_ENV)
        check_brackets(env, family)
    except ValueError as error:
        said = in_flags(error, None, "")
        raise UsageError(f"--env {_once('--env', given.env)}: {said}") from error
    protocol = _protocol(env, family, _once("--protocol", given.protocol))
    usual = preset(preset_family(env, family))
    algo = _known("--algo", _once("--algo", given.algo) or usual.algo)
    torso = _once("--torso", given.torso) or usual.torso
    if torso == BY_OBSERVATION:
        torso = _fitting(env, family, rest)
    torso = _known("--torso", torso)
    core = _known("--core", _once("--core", given.core) or NONE)
    aux = _auxiliaries(given.aux or [])
    gate = _once("--gate", given.gate)
    joined = family == FAMILY
    if gate is not None and not (aux or joined or has_phase(algo)):
        raise UsageError(
            f"--gate {gate} has nothing to gate: add a head, as --aux spr, or drop --gate."
        )
    if aux or joined or gate is not None:
        gate = _known("--gate", gate or DEFAULT_GATE)
    if algo == NONE and gate != "sum":
        raise UsageError(
            "--algo none leaves gates nothing to compare with: add --aux distill --gate sum."
        )
    if given.teacher is not None:
        if "distill" not in aux:
            raise UsageError("--teacher needs --aux distill.")
        rest += _spelt_out("--teacher", "--aux.distill.teacher", given.teacher, rest)
    if given.env_backend is not None:
        if family != "atari":
            raise UsageError(f"--env-backend is for Atari games, and {env} is none: drop it.")
        rest += _spelt_out("--env-backend", "--env.backend", given.env_backend, rest)
    return Choice(env, family, algo, torso, aux, gate, core, protocol), rest


def _fitting(env: str, family: str, arguments: Sequence[str]) -> str:
    """The torso that suits what an environment shows, with the options that it is given.

    Makes one environment and asks.  What cannot be made is refused later, with its reason, by the
    second pass over the arguments or when the run is built.

    Args:
        env: its canonical name.
        family: that builds it.
        arguments: of the second pass.
    """
    default = registered()[family]
    options, taken = [], False
    for argument in arguments:
        taken = argument.startswith("--env.") or (taken and not argument.startswith("--"))
        options += [argument] if taken else []
    kind = make_dataclass("Options", [("env", type(default), field(default=default))], frozen=True)
    try:
        config: Any = read(kind, options, prog="train.py") if options else kind()
        count = 1 if family != FAMILY else sum(config.env.share) or len(tasks_of(env, family))
        made = config.env.build(env, count, 0, torch.device("cpu"))
    except ValueError:
        return UNKNOWN.torso
    made.close()
    return usual_torso(made.spec.observation_shape, made.spec.num_symbols)


def has_phase(algo: str) -> bool:
    """Whether an algorithm has an auxiliary phase of its own, whose loss passes the gate."""
    return bool(component("algo", algo).build(discount=1.0).phase_trains)


def _once(flag: str, values: list[str] | None) -> str | None:
    if values is not None and len(values) > 1:
        raise UsageError(f"{flag} is given {len(values)} times: give it once.")
    return values[0] if values else None


def _spelt_out(short: str, long: str, values: list[str], rest: Sequence[str]) -> list[str]:
    """The option that a short flag stands for."""
    if any(argument.partition("=")[0] == long for argument in rest):
        raise UsageError(f"{short} is short for {long}: give one of the two.")
    return [long, _once(short, values) or ""]


def _protocol(env: str, family: str, asked: str | None) -> str:
    known = tuple(PROTOCOLS.get(family, ()))
    if asked is None:
        return known[0] if known else ""
    if not known:
        raise UsageError(f"--protocol is for Atari games, and {env} is none: drop it.")
    if asked not in known:
        raise UsageError(f"--protocol {asked} is unknown: choose {nearest_first(asked, known)}.")
    return asked


def _known(flag: str, name: str) -> str:
    key = name.replace("-", "_")
    known = names(flag.removeprefix("--"))
    if key not in known:
        raise UsageError(f"{flag} {name} is unknown: choose {nearest_first(key, known)}.")
    return key


def _auxiliaries(given: Sequence[str]) -> tuple[str, ...]:
    chosen = [name for name in given if name != NONE]
    if NONE in given and chosen:
        raise UsageError(f"--aux none excludes --aux {' '.join(chosen)}: drop one of them.")
    known = tuple(_known("--aux", name) for name in chosen)
    for name in known:
        if known.count(name) > 1:
            raise UsageError(f"--aux {name} is given twice: give it once.")
    return known
