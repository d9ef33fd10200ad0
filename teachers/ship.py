"""Turns a run into a shipped teacher: `python teachers/ship.py RUN --name Breakout/weak`.

Writes the policy in float16 without the value head, scores the file as stored, and
makes the card (README.md) with command, seed, steps, score, digest and curve.
"""

import csv
import hashlib
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import torch
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
mpl.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402

from agents.runtime.checkpoint import write_json  # noqa: E402
from agents.teachers import POLICY_FILE, export_policy, load_policy  # noqa: E402
from configs.errors import UsageError  # noqa: E402
from configs.programs import EvaluateOptions  # noqa: E402
from experiments.evaluation.command import evaluate  # noqa: E402
from experiments.report.command import command  # noqa: E402
from experiments.results import options_of  # noqa: E402

CARD = """\
# {title}

{about}

| | |
|---|---|
| file | `policy.safetensors`: torso and policy in float16, no value head, {size:.1f} MiB |
| SHA-256 | `{digest}` |
| score of this file | mean **{mean:.3g}** (95 % interval {low:.3g} to {high:.3g}), \
median {median:.3g} |
| measured by | `python evaluate.py {name} --episodes {episodes}`: {episodes} episodes, \
actions sampled, {precision} |
| protocol | {protocol}, raw score |
| human-normalised | {human} |
| trained by | `{command}` |
| seed | {seed} |
| agent steps | {steps} |
| commit | {commit} |
| hardware | {cpu}, {cores} cores, GPU {gpu} |
{note}
![Return while training](curve.png)

`evaluation.json` holds the score of every episode, `curve.csv` the curve. `python teachers/ship.py`
makes this folder from a run.
"""

ABOUT = (
    "Its training was stopped long before the algorithm's limit, so a student can gain from it "
    "and can also lose by trusting it too long."
)


@dataclass(frozen=True)
class Options:
    """Which run to ship, and what to say about it."""

    run: tyro.conf.Positional[str]
    """The run's folder."""
    episodes: int = 100
    """Played with the stored file."""
    note: str = ""
    """A further row of the card."""
    name: str = ""
    """By which --teacher finds it: the environment, or a name below it, as Breakout/weak; empty:
    the environment."""
    about: str = ABOUT
    """What the card says of it first."""
    num_envs: int = 16
    """Environments stepped together while it is scored."""


def main(options: Options) -> None:
    """Exports, scores, draws, writes the card."""
    run = Path(options.run)
    try:
        config: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))
        versions: dict[str, Any] = json.loads((run / "versions.json").read_text(encoding="utf-8"))
        agent, card = load_policy(run, torch.device("cpu"))
        finished = rows_of(run)
    except (OSError, ValueError) as error:
        sys.exit(f"ship.py: {run} is no run with a policy ({error}): give the folder of one.")
    if not finished:
        sys.exit(f"ship.py: {run} has finished no episode: train it for more --steps.")
    name = options.name or card.env
    if name != card.env and not re.fullmatch(rf"{re.escape(card.env)}/[\w-]+", name):
        sys.exit(f"ship.py: --name must be {card.env} or {card.env}/NAME, not {name}.")
    # How many threads and pools play does not belong to the environment's definition.
    env_options = {k: v for k, v in card.env_options.items() if k not in ("num_threads", "pools")}
    with TemporaryDirectory() as made:
        folder = Path(made) / "teacher"
        folder.mkdir()  # with the usual permissions
        file = folder / POLICY_FILE
        export_policy(file, agent, replace(card, env_options=env_options), torch.float16)
        playing = EvaluateOptions((str(folder),), options.episodes, options.num_envs)
        try:
            (scored,) = evaluate(playing)
        except UsageError as error:
            sys.exit(f"ship.py: {error}")
        result = scored.to_json()
        write_json(folder / "evaluation.json", result)
        draw(run, folder, name)
        text = describe(name, options, config, versions, result, card.steps, file)
        (folder / "README.md").write_text(text, encoding="utf-8")
        # A teacher of this name stays as it was until all of the new one is there.
        shutil.copytree(folder, ROOT / "teachers" / name, dirs_exist_ok=True)
    print(scored.summary())


def describe(
    name: str,
    options: Options,
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
    result: Mapping[str, Any],
    steps: int,
    file: Path,
) -> str:
    """The card of a teacher.

    Args:
        name: of the teacher.
        options: of this program.
        config: of its run.
        versions: of its run.
        result: of its evaluation.
        steps: agent steps of its training.
        file: its policy.
    """
    env = str(result["env"])
    low, high = result["interval_95"]
    human, skip = result["human_normalised"], config["env"].get("frame_skip")
    return CARD.format(
        **{
            key: result[key]
            for key in ("env", "mean", "median", "episodes", "precision", "protocol")
        },
        title=f"A teacher for {env}" + (f": {name}" if name != env else ""),
        about=textwrap.fill(options.about, 100),
        name=name,
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        size=file.stat().st_size / 2**20,
        low=low,
        high=high,
        human="-" if human is None else f"{100 * human:.0f} %",
        command=command(config),
        seed=config["run"]["seed"],
        steps=f"{steps:,}" + (f" ({steps * skip:,} frames)" if skip else ""),
        commit=f"{versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        cpu=versions["cpu"],
        cores=versions["cores"],
        gpu=versions["gpu"] or "none",
        note=f"| note | {options.note} |\n" if options.note else "",
    )


def rows_of(run: Path) -> list[dict[str, str]]:
    """The lines of a run's log at which an episode had finished."""
    with (run / "metrics.csv").open(encoding="utf-8") as source:
        return [row for row in csv.DictReader(source) if row["return"]]


def draw(run: Path, folder: Path, name: str) -> None:
    """Copies the return's curve and draws it.

    Args:
        run: folder of the run.
        folder: of the teacher.
        name: of the teacher, for the title.
    """
    rows = rows_of(run)
    rows = rows[:: max(1, len(rows) // 200)]
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["step", "return", "entropy"])
        writer.writerows([row["step"], row["return"], row["entropy"]] for row in rows)
    figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    steps = [int(row["step"]) / 1000 for row in rows]
    axes.plot(steps, [float(row["return"]) for row in rows], color="#4c72b0")
    axes.set_xlabel("thousand agent steps")
    axes.set_ylabel("return, last 100 episodes")
    axes.set_title(f"{name}: the shipped teacher while training", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(folder / "curve.png", dpi=120)


if __name__ == "__main__":
    main(options_of(Options, sys.argv[1:], "ship.py", __doc__))
