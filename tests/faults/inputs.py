"""Edited configs and generated command lines: each is understood or refused in one sentence."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.cli import parse
from configs.errors import UsageError
from experiments.training.command import main as train
from tests.faults.harness import run
from tests.faults.kills import SMALL

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 0.0, 0.5, -0.5, 1.5, 1e-300, 1e300),
    *("", "x", "0", "nan", "cpu", [], [1], [None], {}, {"a": 1}, [[[]]]),
)
"""What an entry of a config may become."""
TEXTS = (
    *("0", "1", "-1", "2", "0.5", "1e-300", "1e30", "nan", "inf", "-inf", "1e9", "2**3", "10_0"),
    *("", "x", "none", "None", "True", "Catch", "a2c", "ppo", "cosine", "sum", "mlp", "gru", "é"),
)
"""What follows a flag."""
FLAGS = (
    *("env", "algo", "torso", "core", "aux", "gate", "steps", "num-envs", "unroll-length", "seed"),
    *("device", "precision", "threads", "learning-rate", "learning-rate-end", "discount", "plugin"),
    *("max-gradient-norm", "normalize-value", "checkpoint-minutes", "log-steps", "picture-steps"),
    *("deterministic", "compile", "pipeline", "max-skipped", "env.rows", "env.columns", "teacher"),
    *("algo.a2c.c-clip", "algo.ppo.epochs", "algo.ppo.minibatches", "core.gru.size", "gate.every"),
    *("aux.inverse.coefficient", "aux.distill.temperature", "gate.projection.decay", "gate.scope"),
    *("torso.mlp.widths", "lr", "total-timesteps", "help-me", "resume-from"),
)


def edit_configs(seed: int, number: int, folder: Path) -> Iterator[str]:
    """Resumes runs whose `config.json` was edited; yields what went wrong, empty if nothing did.

    Args:
        seed: of all choices.
        number: of edited configs.
        folder: an empty one.
    """
    rng = random.Random(seed)
    template, usual = folder / "template", folder / "usual"
    template.mkdir()
    assert run(train, f"{SMALL} --run-dir job", template).code == 0
    shutil.copytree(template, usual)
    assert run(train, "--resume job --steps 84", usual).code == 0
    expected = (usual / "job" / "policy.safetensors").read_bytes()
    for _ in range(number):
        place = folder / "place"
        shutil.copytree(template, place)
        config = place / "job" / "config.json"
        content = json.loads(config.read_text("utf-8"))
        told = _edit(content, rng)
        config.write_text(json.dumps(content), encoding="utf-8")
        ended = run(train, "--resume job --steps 84", place)
        wrong = ended.trouble
        policy = (place / "job" / "policy.safetensors").read_bytes()
        if not wrong and ended.code == 0 and policy != expected:
            wrong = "a silent ruin"
        yield f"config.json with {told}: {wrong}: {ended.said[-1500:]}" if wrong else ""
        shutil.rmtree(place)


def _edit(content: dict[str, Any], rng: random.Random) -> str:
    """Changes one entry somewhere; says which."""
    place, way = content, []
    while True:
        key = rng.choice(sorted(place))
        way.append(key)
        if not (isinstance(place[key], dict) and place[key] and rng.random() < 0.9):
            break
        place = place[key]
    if rng.random() < 0.2:
        del place[key]
        return f"no {'.'.join(way)}"
    place[key] = rng.choice(VALUES)
    return f"{'.'.join(way)} = {place[key]!r}"


def parse_lines(seed: int, number: int, folder: Path) -> Iterator[str]:
    """Reads generated command lines; yields what went wrong, empty if nothing did.

    Args:
        seed: of all choices.
        number: of command lines.
        folder: unused, for the same signature as the others.
    """
    rng = random.Random(seed)
    for _ in range(number):
        words = ["--env", "Catch"] if rng.random() < 0.8 else []
        for flag in rng.sample(FLAGS, rng.randint(1, 4)):
            joined = rng.random() < 0.2
            value = rng.choice(TEXTS)
            words += [f"--{flag}={value}"] if joined else [f"--{flag}", value]
        wrong = ""
        try:
            parse(words)
        except UsageError as error:
            wrong = "" if "\n" not in str(error) else f"several lines: {error}"
        except SystemExit:
            wrong = "exits without a sentence"
        except Exception as error:
            wrong = repr(error)
        yield f"train.py {' '.join(words)}: {wrong}" if wrong else ""
