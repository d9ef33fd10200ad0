"""From a run's `config.json` to its options by flag, and to the command that makes it again."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from configs import stored
from configs.choice import Choice
from configs.training import PRACTICAL, RunOptions, TrainConfig, absent, defaults

SHOWN = ("steps", "num_envs", "unroll_length", "learning_rate", "precision")
"""Options that a reader looks for first: in every command, whatever the defaults."""
HOUSEKEEPING = {*PRACTICAL, "log_seconds", "deterministic", "compile"} - {"steps"}
"""Options of a run that say where it computes and what it writes, not what it learns; those of
earlier versions too."""

PROGRAMS = {
    "": ("train.py",),
    "unmasked": ("-m", "experiments.studies.autoreset", "--unmasked", "--"),
}
"""The program that makes a run of each variant; the flags of `train.py` follow."""

NO_HEADS = "main only"
"""The name of a run without auxiliary heads."""

Config = Mapping[str, Any]


def description(config: Config) -> str:
    """A run in short: its heads and its gate."""
    choice = config["choice"]
    if not choice["aux"]:
        return str(choice["gate"]) if config.get("tasks") else NO_HEADS
    name = f"{' + '.join(choice['aux'])}, {choice['gate']}"
    return f"{name}, no main loss" if choice["algo"] == "none" else name


def components(config: Config) -> dict[str, Any]:
    """The components of a run by slot (`torso`); a slot added since has its default."""
    younger = {slot.name: slot.default for slot in fields(Choice) if slot.default is not MISSING}
    return {**younger, **config["choice"]}


def options(config: Config) -> dict[str, Any]:
    """All options that affect learning, by flag (`aux.distill.temperature`).

    An option added since the config was written has the value that runs had before it.
    """
    template = _template(config)
    before = absent(RunOptions)
    ignored = set(HOUSEKEEPING)
    if template is not None:
        before |= {f"env.{name}": value for name, value in absent(template.env).items()}
        algo = f"algo.{template.choice.algo}."
        before |= {f"{algo}{name}": value for name, value in absent(template.algo).items()}
        # How many threads play, for instance: the game is the same.
        ignored |= {f"env.{field.name}" for field in fields(template.env) if not field.compare}
    found = {**_by_flag(template), **before, **_flatten(config)}
    return {flag: value for flag, value in found.items() if flag not in ignored}


def command(config: Config) -> str:
    """The command line that makes this run again, without what is the default anyway."""
    standard = _by_flag(_template(config))
    choice, seed = config["choice"], config["run"]["seed"]
    program = PROGRAMS[config.get("variant", "")]
    words = ["python", *program, "--env", choice["env"], "--seed", str(seed)]
    for slot, value in choice.items():
        if slot not in ("env", "family") and value:
            words += [f"--{slot}", *([value] if isinstance(value, str) else value)]
    words += [word for module in config.get("plugins", ()) for word in ("--plugin", module)]
    for flag, value in options(config).items():
        default = flag in standard and standard[flag] == value
        if flag in SHOWN or not (default or flag == "seed"):
            words += _flag(flag, value)
    return shlex.join(words)


def _template(config: Config) -> TrainConfig | None:
    """The defaults of the components that a config names; None if this version lacks one."""
    chosen = dict(config["choice"])
    try:
        return defaults(Choice(**{**chosen, "aux": tuple(chosen["aux"])}))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _by_flag(template: TrainConfig | None) -> dict[str, Any]:
    # Through JSON, as the config came: tuples are lists there.
    return {} if template is None else _flatten(json.loads(json.dumps(template.to_json())))


def _flatten(config: Config) -> dict[str, Any]:
    choice = config["choice"]
    found: dict[str, Any] = {}
    for section, content in config.items():
        match section:
            case "choice" | "variant" | "plugins" | stored.COUNT:
                sections = {}
            case "run":
                sections = {"": content}
            case "heads":
                sections = {f"aux.{name}.": head for name, head in content.items()}
            case "judging":
                # Without heads no gradients are weighed.
                sections = {"gate.": content} if choice["gate"] else {}
            case "env" | "tasks":
                sections = {f"{section}.": content}
            case _:
                sections = {f"{section}.{choice[section]}.": content}
        for prefix, values in sections.items():
            found |= {f"{prefix}{name}": value for name, value in (values or {}).items()}
    return found


def _flag(flag: str, value: Any) -> list[str]:
    path, _, name = flag.replace("_", "-").rpartition(".")
    dotted = f"--{path}." if path else "--"
    match value:
        case bool():
            return [f"{dotted}{name}" if value else f"{dotted}no-{name}"]
        case list():
            return [f"{dotted}{name}", *map(str, value)]
        case _:
            return [f"{dotted}{name}", str(value)]
