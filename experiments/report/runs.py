"""Runs as they are committed: one small CSV each, whose first lines say how it was made.

`thin` makes it from the folder of a run.  Reports are made from these files alone, so that
anyone can draw them again without the runs.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError

from agents.runtime.checkpoint import CONTENT, opened
from agents.teachers import POLICY_FILE, find_policy
from experiments.evaluation.players import scores_beside
from experiments.report.command import command, description
from experiments.training.teachers import SHIPPED_TEACHERS, locate_policy

FIRST_LINE = "# auxgate run 1"
LATE = 0.9
"""From this fraction of its steps on, a run's returns count as final."""

Curve = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Run:
    """One run: its curve, and what its first lines say."""

    path: Path
    about: Mapping[str, str]
    """Protocol, command, commit, hardware, packages, in words."""
    config: Mapping[str, Any]
    """As in `config.json`."""
    step: Curve
    """Agent steps at each point."""
    columns: Mapping[str, Curve]
    """By the names of `metrics.csv`; NaN where nothing was measured."""
    evaluation: Mapping[str, Any] | None = None
    """Mean and number of episodes that the trained policy was evaluated on."""
    teacher: float | None = None
    """Mean score of the teacher it learnt from."""

    @property
    def env(self) -> str:
        """The environment's name."""
        return str(self.config["choice"]["env"])

    @property
    def seed(self) -> int:
        """Runs of the same seed share environment seeds and initial weights."""
        return int(self.config["run"]["seed"])

    @property
    def steps(self) -> int:
        """Agent steps at its last point."""
        return int(self.step[-1])

    @property
    def finished(self) -> bool:
        """Whether it trained for all the steps that it was to train."""
        return self.steps >= int(self.config["run"]["steps"])

    @property
    def final(self) -> float:
        """Mean return of the points in the last tenth of the steps."""
        step, values = self.measured("return")
        # Where nothing was measured so late, the last point stands for the rest.
        late = step >= min(LATE * self.steps, step[-1])
        return float(values[late].mean())

    @property
    def area(self) -> float:
        """Area under the curve of the return, divided by the steps it spans: how fast it learnt."""
        step, values = self.measured("return")
        if len(step) == 1:
            return float(values[0])
        return float(np.trapezoid(values, step) / (step[-1] - step[0]))

    def measured(self, column: str) -> tuple[Curve, Curve]:
        """Steps and values of the points where a column was measured."""
        values = self.columns.get(column, np.full(len(self.step), np.nan))
        there = ~np.isnan(values)
        return self.step[there], values[there]


def read(path: Path) -> Run:
    """Reads a run's CSV.

    Raises:
        ValueError: the file is damaged.
    """
    return parse(path.read_text(encoding="utf-8"), path)


def parse(text: str, path: Path) -> Run:
    """Parses the text of a run's CSV; `path` is where the text comes from.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        lines = text.splitlines()
        about = dict(line[2:].split(": ", 1) for line in lines[1:] if line.startswith("# "))
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        evaluation, teacher = about.pop("evaluation", ""), about.pop("teacher", "")
        run = Run(
            path=path,
            config=json.loads(about.pop("config")),
            evaluation=json.loads(evaluation) if evaluation else None,
            teacher=float(teacher) if teacher else None,
            about=about,
            step=np.array([float(row["step"]) for row in rows]),
            columns={
                name: np.array([float(row[name] or "nan") for row in rows])
                for name in rows[0]
                if name != "step"
            },
        )
        assert not np.isnan(run.final), "thin() refuses runs without a return"
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): make it again from its run") from error
    return run


def is_run(path: Path) -> bool:
    """Whether a file is a run's CSV."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip() == FIRST_LINE


NUM_POINTS = 100
COLUMNS = ("return", "length", "entropy", "explained_variance", "sps")
HEAD_COLUMNS = (
    *("cosine", "passed", "weight", "open", "norm_ratio"),
    *("loss", "kl", "agreement", "followed"),
)
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
    # The folder of the run is left out: it is a path of one machine.
    kept = {**config, "run": {**config["run"], "run_dir": "", "resume": ""}}
    if "variant" in versions:
        # The program differs, not its options: see experiments/studies/autoreset.py.
        kept["variant"] = versions["variant"]
    about = {
        "env": config["choice"]["env"],
        "arm": description(config),
        "seed": config["run"]["seed"],
        "protocol": _said(folder / POLICY_FILE, "protocol"),
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
    """Mean of the measured cells, as text; empty without any."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return f"{np.mean(values):.5g}" if values else ""


def _said(policy: Path, what: str) -> str:
    """What an exported policy says of how it was made; empty if it does not.

    Args:
        policy: its file.
        what: an entry of its card, such as `protocol`.
    """
    try:
        with opened(policy, "numpy") as file:
            return str(json.loads(file.metadata()[CONTENT])[what])
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
    """The score in the folder of the teacher's policy, if there is one."""
    env = config["choice"]["env"]
    for head in config["heads"].values():
        # The score of a teacher's file says nothing of what is heard where its answers are changed,
        # nor of what it is worth in another game.
        changed = any(map(head.get, ("mirror", "random_answers", "mask", "delay")))
        if "teacher" in head and not changed:
            given = head["teacher"]
            policy = find_policy(locate_policy(given) if given else SHIPPED_TEACHERS / env)
            file = scores_beside(policy)
            if file.is_file() and _said(policy, "env") in (env, ""):
                return float(json.loads(file.read_text(encoding="utf-8"))["mean"])
    return None
