"""Runs that differ only in their seed form an arm, named by what distinguishes it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.report.command import NO_HEADS, components, description, options
from experiments.report.runs import Run

CHOSEN = ("torso", "core")
"""Components that are named in an arm where they differ; heads and gate always are."""


@dataclass(frozen=True)
class Arm:
    """Runs of one setting on one or more games."""

    name: str
    runs: Mapping[str, tuple[Run, ...]]
    """By game, in the order of their seeds."""

    @property
    def gate(self) -> str:
        """The gate of all its runs, or `main only` without heads."""
        run = next(iter(self.runs.values()))[0]
        weighs = run.config["choice"]["aux"] or run.config.get("tasks")
        return str(run.config["choice"]["gate"]) if weighs else NO_HEADS

    def seeds(self, env: str) -> tuple[int, ...]:
        """The seeds of its runs on one game."""
        return tuple(run.seed for run in self.runs[env])


def name_runs(runs: Sequence[Run]) -> dict[Path, str]:
    """The arm of each run, by the run's file.

    Next to heads and gate, the name says every option in which runs of the same game differ;
    what it does not say is the same for all of them.
    """
    names: dict[Path, str] = {}
    for env in dict.fromkeys(run.env for run in runs):
        settings = {run.path: _settings(run.config) for run in runs if run.env == env}
        differing = _differing(settings.values())
        short = _short_names(differing)
        for run in runs:
            if run.env == env:
                said = [
                    _said(short[flag], value)
                    for flag, value in settings[run.path].items()
                    if flag in differing
                ]
                names[run.path] = ", ".join([description(run.config), *said])
    return names


def differing_settings(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """The settings in which the arms of one game differ.

    Args:
        runs: one of each arm, all of the same game.

    Returns:
        The value of each arm by the setting's name; empty where an arm has no such setting.
    """
    settings = [
        {
            "heads": " ".join(run.config["choice"]["aux"]) or "none",
            "gate": run.config["choice"]["gate"] or "none",
            "algorithm": components(run.config)["algo"],
            **{flag: value for flag, value in _settings(run.config).items() if flag},
        }
        for run in runs
    ]
    differing = _differing(settings)
    flags = [flag for each in settings for flag in each if flag in differing]
    return {
        flag: tuple(_readable(each[flag]) if flag in each else "" for each in settings)
        for flag in dict.fromkeys(flags)
    }


def group(runs: Sequence[Run], first: str = "") -> list[Arm]:
    """Sorts runs into arms; arms without heads come first, those without a main loss last.

    Args:
        runs: of any number of games.
        first: the name of the arm that comes first and that the others are compared with.

    Raises:
        ValueError: two runs have the same arm, game and seed, or no arm is called `first`.
    """
    names = name_runs(runs)
    found: dict[str, dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        of_seed = found[names[run.path]][run.env]
        if run.seed in of_seed:
            raise ValueError(
                f"{of_seed[run.seed].path} and {run.path} are the same arm and seed: leave one out"
            )
        of_seed[run.seed] = run
    if first and first not in found:
        raise ValueError(f"--first {first!r} is no arm: choose one of {'; '.join(sorted(found))}")
    order = sorted(
        found,
        key=lambda name: (
            name != first,
            not name.startswith(NO_HEADS),
            "no main loss" in name,
            name,
        ),
    )
    return [
        Arm(
            name,
            {
                env: tuple(found[name][env][seed] for seed in sorted(found[name][env]))
                for env in sorted(found[name])
            },
        )
        for name in order
    ]


def same_run(first: Run, second: Run) -> bool:
    """Whether two files are of the same arm, game and seed."""
    return (
        first.env == second.env
        and first.seed == second.seed
        and description(first.config) == description(second.config)
        and _settings(first.config) == _settings(second.config)
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in which runs with the same heads and gate may differ."""
    chosen_by_slot = components(config)
    # Without a main loss there is no algorithm to name.
    algorithm = {} if chosen_by_slot["algo"] == "none" else {"": chosen_by_slot["algo"]}
    chosen = {slot: chosen_by_slot[slot] for slot in CHOSEN}
    rest = {flag: value for flag, value in options(config).items() if flag != "seed"}
    variant = {"autoreset steps": config.get("variant", "masked")}
    # Only an algorithm with a phase of its own has a gate without heads.
    gate = config["choice"]["gate"] if description(config) == NO_HEADS else None
    phase = {"gate": gate} if gate else {}
    return {**algorithm, **phase, **chosen, **variant, **rest}


def _differing(settings: Iterable[Mapping[str, Any]]) -> set[str]:
    values: dict[str, list[Any]] = defaultdict(list)
    for each in settings:
        for flag, value in each.items():
            if value not in values[flag]:
                values[flag].append(value)
    return {flag for flag, found in values.items() if len(found) > 1}


def _short_names(flags: Iterable[str]) -> dict[str, str]:
    """The last word of each flag where that is clear enough."""
    flags = list(flags)
    last = [flag.rpartition(".")[2] for flag in flags]
    return {
        flag: (word if last.count(word) == 1 else flag).replace("_", " ")
        for flag, word in zip(flags, last, strict=True)
    }


def _said(option: str, value: Any) -> str:
    """An option as part of an arm's name."""
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{option} {_readable(value)}".lstrip()


def _readable(value: Any) -> str:
    match value:
        case "" | None:
            return "default"
        case list():
            return " x ".join(map(str, value))
        case _:
            return str(value)
