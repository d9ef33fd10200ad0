"""From a run's folder to the small CSV that is committed: `runs.py` reads it."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from agents.runtime.files import CONTENT
from agents.teachers import POLICY_FILE, find_policy
from experiments.report.arms import parts
from experiments.report.command import command
from experiments.report.runs import FIRST_LINE
from experiments.training.build import SHIPPED_TEACHERS

NUM_POINTS = 100
COLUMNS = ("return", "length", "entropy", "explained_variance", "sps")
HEAD_COLUMNS = ("cosine", "passed", "weight", "open", "norm_ratio", "loss", "kl")
PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "ale-py")


def thin(folder: Path) -> str:
    """Makes a run's CSV from its folder.

    Raises:
        ValueError: it is no run, or has no finished episode yet.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
        with (folder / "metrics.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        header = _header(folder, config, versions)
        heads = [f"{head}/{column}" for head in config["heads"] for column in HEAD_COLUMNS]
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is no run: it has no {Path(error.filename).name}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} cannot be read ({error!r})") from error
    if not any(row.get("return") for row in rows):
        raise ValueError(f"{folder} has no finished episode in metrics.csv: train it for longer")
    columns = [name for name in (*COLUMNS, *heads) if name in rows[0]]
    lines = [*header, ",".join(("step", *columns))]
    last = int(rows[-1]["step"])
    for index in range(NUM_POINTS):
        low, high = (last * edge / NUM_POINTS for edge in (index, index + 1))
        inside = [row for row in rows if low < int(row["step"]) <= high]
        if inside:
            lines.append(",".join([inside[-1]["step"], *(_mean(inside, name) for name in columns)]))
    return "\n".join(lines) + "\n"


def _header(folder: Path, config: dict[str, Any], versions: Mapping[str, Any]) -> list[str]:
    evaluation = _evaluation(folder)
    packages = [
        f"{name} {versions['packages'][name]}"
        for name in PACKAGES
        if versions["packages"].get(name)
    ]
    teacher = _teacher_score(config)
    # Where the run lay is nobody's business.
    kept = {**config, "run": {**config["run"], "run_dir": "", "resume": ""}}
    if "variant" in versions:
        # Of the program, not of its options: see experiments/studies/autoreset.py.
        kept["variant"] = versions["variant"]
    about = {
        "env": config["choice"]["env"],
        "arm": parts(config),
        "seed": config["run"]["seed"],
        "protocol": _protocol(folder),
        "command": command(kept),
        "commit": f"{versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        "hardware": f"{versions['cpu']}, {versions['cores']} cores, GPU {versions['gpu']}",
        "packages": ", ".join(packages),
        "evaluation": "" if evaluation is None else json.dumps(evaluation),
        "teacher": "" if teacher is None else f"{teacher:.5g}",
        "config": json.dumps(kept),
    }
    return [FIRST_LINE, *(f"# {name}: {value}" for name, value in about.items() if value != "")]


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> str:
    """Mean of what was measured, as text; empty if nothing was."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return f"{np.mean(values):.5g}" if values else ""


def _protocol(folder: Path) -> str:
    """How the game was played, as the exported policy says; empty if it does not."""
    try:
        with safe_open(folder / POLICY_FILE, framework="numpy") as file:
            return str(json.loads(file.metadata()[CONTENT])["protocol"])
    except (FileNotFoundError, KeyError, SafetensorError, TypeError, ValueError):
        return ""


def _evaluation(folder: Path) -> dict[str, Any] | None:
    """The score of the run's policy; none where `evaluate.py` did not play the final one."""
    file = folder / "evaluation.json"
    if not file.is_file():
        return None
    result = json.loads(file.read_text(encoding="utf-8"))
    return {name: result[name] for name in ("mean", "episodes", "trained_steps", "seed")}


def _teacher_score(config: Mapping[str, Any]) -> float | None:
    """The score beside the teacher's policy, if there is one."""
    for head in config["heads"].values():
        if "teacher" in head:
            path = Path(head["teacher"] or SHIPPED_TEACHERS / config["choice"]["env"])
            file = find_policy(path).parent / "evaluation.json"
            if file.is_file():
                return float(json.loads(file.read_text(encoding="utf-8"))["mean"])
    return None
