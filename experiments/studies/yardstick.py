"""How much of the help and of the harm of auxiliaries each gate lets through.

    help kept    H = (gate - main) / (sum - main)    on tasks whose auxiliary helps
    harm let in  L = (main - gate) / (main - sum)    on tasks whose auxiliary harms

`sum` is at (1, 1), learning without the auxiliary at (0, 0), and (1, 0) is the ideal.  A task
counts where `sum` differs from main-only learning by more than its 95 % interval; any other is
open.  Intervals are bootstrapped over worlds or seeds, which all arms share.  Two kinds of tasks:

- tabular: students of the sweep with sampled gradients, cold and warm teachers of another world
  (cross) and of their own (same);
- network: an agent in the gridworld, with a teacher that helps and one that misleads
  (configs/studies/gates.toml), and with heads that harm (gates_heads.toml).

    python -m experiments.studies.yardstick --measure tabular network   # goes on where it stopped
    python -m experiments.studies.yardstick                             # draws again

The output folder gets scores.csv (a number for each arm and world or seed), tasks.csv (what each
auxiliary does through `sum`), yardstick.csv (H and L of each gate) and yardstick.png.
"""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from agents.gates import registered
from configs.choice import component
from experiments.report.runs import Run, is_run, parse, thin
from experiments.results import ROOT, Table, header, options_of, run_alone
from experiments.running.command import main as study
from experiments.statistics import Estimate
from experiments.studies.engine import number
from experiments.studies.shares import (
    REFERENCE,
    Score,
    Share,
    Task,
    better,
    shares_of,
    tasks_of,
)
from experiments.sweep.arms import MAIN
from experiments.sweep.command import main as sweep
from experiments.sweep.output import WORLDS

Part = Literal["tabular", "network"]

PROTECTING = (
    *("sum", "cosine", "cosine_unweighted", "projection", "projection(decay=0.99)", "orthogonal"),
    *("bounded(kappa=0.25)", "bounded", "bounded(kappa=1)", "bounded(kappa=2) where advantage"),
    *("sum where advantage", "sum where ahead", "ol_aux"),
)
SYMMETRIC = ("sum", "pcgrad", "gradvac", "mgda", "cagrad", "upgrad", "nash", "auxinash")
EXACT = ("sum", "cosine", "cosine_unweighted", "projection", "bounded", "sum where ahead")
SWEEPS: Mapping[str, Sequence[str]] = {
    "tabular": PROTECTING,
    "tabular symmetric": SYMMETRIC,
    "tabular exact": (*EXACT, "--gradients", "exact"),
}
"""Sweeps in the same worlds, each with main-only and `sum`: their gates, and what is particular.
Gates judge exact gradients in the last: what is missing to (1, 0) there is not due to noise."""
STUDIES = {
    "network": "gates",
    "network heads": "gates_heads",
    "network privileged": "gates_privileged",
}
"""Files in configs/studies."""
TEACHER = "runs/gates_teacher"
TEACHER_FLAGS = ("--env", "Gridworld", "--steps", "1000000", "--seed", "101")
MEASURES = {"area": "mean over the run", "final": "at the end"}

SCORES, TASKS, YARDSTICK = "scores.csv", "tasks.csv", "yardstick.csv"
FIGURE = "yardstick.png"
SCORE_COLUMNS = ("source", "task", "gate", "measure", "units", "values")
TASK_COLUMNS = (
    *("source", "measure", "task", "units", "main", "sum", "difference", "low", "high", "kind"),
)
COLUMNS = (
    *("source", "measure", "gate", "share", "task", "units", "value", "low", "high"),
    *("less_cosine", "less_cosine_low", "less_cosine_high"),
)


@dataclass(frozen=True)
class Options:
    """What to measure, and where the results go."""

    measure: tuple[Part, ...] = ()
    """What to measure anew or to go on with; none: only draw again."""
    add: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE=DIR [SOURCE=DIR ...]")] = ()
    """Further arms of a source, from a sweep in the same worlds or a study with the same seeds:
    network=runs/another_gate."""
    folder: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/gates_yardstick"
    """Sweeps and runs go there."""
    worlds: int = 200
    """Worlds of the tabular students."""
    seed: int = 21
    """Seed of these worlds: another one than that of worlds in which gates were chosen."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "benchmarks/results/gates_yardstick"
    """Tables and the figure go there."""


def read_sweep(folder: Path, source: str) -> list[Score]:
    """Reads the tabular students of a finished sweep.

    Args:
        folder: of the sweep.
        source: what its scores are called.
    """
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    with (folder / WORLDS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            taught = row["setting"]
            task = f"{taught}, temperature {float(row['temperature']):g}" if taught else ""
            arm = found.setdefault((task, row["gate"]), {measure: {} for measure in MEASURES})
            for measure in MEASURES:
                arm[measure][int(row["world"])] = float(row[measure])
    return _scores(found, source)


def read_runs(folder: Path, source: str) -> list[Score]:
    """Reads the finished runs of a study, or the runs' CSVs of its report.

    Args:
        folder: of either.
        source: what their scores are called.

    Raises:
        ValueError: a run is damaged, or the runs are not of one environment and length.
    """
    runs = [
        parse(thin(path.parent), path.parent)
        for path in sorted(folder.rglob("config.json"))
        if (path.parent / "policy.safetensors").is_file()
    ] + [
        parse(path.read_text(encoding="utf-8"), path)
        for path in sorted(folder.glob("*.csv"))
        if is_run(path)
    ]
    finished = [run for run in runs if run.finished]
    if len({(run.env, run.config["run"]["steps"]) for run in finished}) != 1:
        raise ValueError(f"{folder} must hold finished runs of one environment and length.")
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for run in finished:
        arm = found.setdefault(_arm(run), {measure: {} for measure in MEASURES})
        for measure in MEASURES:
            arm[measure][run.seed] = float(getattr(run, measure))
    return _scores(found, source)


def _scores(
    arms: Mapping[tuple[str, str], Mapping[str, Mapping[int, float]]], source: str
) -> list[Score]:
    return [
        Score(source, task, gate, measure, values)
        for (task, gate), measures in arms.items()
        for measure, values in measures.items()
    ]


def _arm(run: Run) -> tuple[str, str]:
    """The task and the gate of a run."""
    choice, heads = run.config["choice"], run.config["heads"]
    if not choice["aux"]:
        return "", MAIN
    where = heads.get("distill", {}).get("where", "everywhere")
    task = " + ".join(
        _with_options(name, heads[name], component("aux", name), {"where"})
        for name in choice["aux"]
    )
    gate = _with_options(choice["gate"], run.config["gate"], registered()[choice["gate"]], set())
    at = run.config["judging"].get("at", "parameters")
    gate += f" at {at}" if at != "parameters" else ""
    return task, gate + (f" where {where}" if where != "everywhere" else "")


def _with_options(name: str, options: Mapping[str, Any], default: Any, but: set[str]) -> str:
    """A component with the options that are not its defaults, as gates are written in a sweep."""
    usual = json.loads(json.dumps(asdict(default)))
    said = [
        f"{key}={Path(value).name if isinstance(value, str) else f'{value:g}'}"
        for key, value in options.items()
        if key not in but and value != usual.get(key)
    ]
    return f"{name}({', '.join(said)})" if said else name


def measure(options: Options) -> tuple[list[Score], list[str]]:
    """Measures what is asked for; what is there already is kept.

    Returns:
        The scores, and how they were made.

    Raises:
        ValueError: a program refused or failed; it has said why.
    """
    folder = Path(options.folder)
    scores, remarks = [], []
    if "tabular" in options.measure:
        common = ["--worlds", str(options.worlds), "--seed", str(options.seed)]
        for source, gates in SWEEPS.items():
            place = folder / source.replace(" ", "_")
            flags = [*common, "--temperatures", "0", "1", "--gates", *gates]
            if sweep([*flags, "--output", str(place)]):
                raise ValueError("the sweep did not end: see above.")
            scores += read_sweep(place, source)
            remarks.append(_made(source, place, f"{options.worlds} worlds of seed {options.seed}"))
    if "network" in options.measure:
        if not (ROOT / TEACHER / "policy.safetensors").is_file():
            run_alone([sys.executable, "train.py", *TEACHER_FLAGS, "--run-dir", TEACHER])
        for source, name in STUDIES.items():
            place, file = folder / source.replace(" ", "_"), f"configs/studies/{name}.toml"
            begun = (place / "study.json").is_file()
            if study(["--resume", str(place)] if begun else [file, "--output", str(place)]):
                raise ValueError("the study did not end: see above.")
            scores += read_runs(place, source)
            remarks.append(_made(source, next(place.glob("*/config.json")).parent, file))
    return scores, remarks


def added(options: Options) -> tuple[list[Score], list[str]]:
    """Reads the arms that were measured apart; as `measure`.

    Raises:
        ValueError: a folder holds no finished sweep or study.
    """
    scores: list[Score] = []
    remarks = []
    for given in options.add:
        source, _, name = given.partition("=")
        folder = Path(name)
        swept = (folder / WORLDS).is_file()
        if not name or not (swept or any(folder.glob("*/config.json"))):
            raise ValueError(f"--add {given} must be SOURCE=DIR, of a finished sweep or study.")
        found = read_sweep(folder, source) if swept else read_runs(folder, source)
        scores += found
        one = folder if swept else next(folder.glob("*/config.json")).parent
        gates = sorted({score.gate for score in found} - {MAIN})
        remarks.append(_made(source, one, f"also {', '.join(gates)}"))
    return scores, remarks


def _made(source: str, folder: Path, what: str) -> str:
    """Where scores come from, in a line above the table."""
    versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    return f"{source}: {what}, commit {versions['commit']}, {versions['cpu']}"


def write(scores: Sequence[Score], remarks: Sequence[str], folder: Path) -> list[Share]:
    """Writes the tables and the figure of all scores.

    Args:
        scores: of all sources.
        remarks: lines above the tables.
        folder: where they go.

    Returns:
        H and L of all gates.
    """
    table = Table(folder / SCORES, SCORE_COLUMNS)
    table.start(remarks, [dict(zip(SCORE_COLUMNS, row, strict=True)) for row in map(_row, scores)])
    tasks, shares = tasks_of(scores), shares_of(scores)
    _write(folder / TASKS, TASK_COLUMNS, remarks, map(_task_row, tasks))
    _write(folder / YARDSTICK, COLUMNS, remarks, map(_share_row, shares))
    _draw(shares, tasks, folder / FIGURE)
    return shares


def redraw(path: Path) -> None:
    """Draws the figure from scores.csv next to it.

    Raises:
        ValueError: there are no scores.
    """
    scores, _ = read(path.parent)
    if not scores:
        raise ValueError(f"{path.parent} has no {SCORES}: measure first, by --measure tabular.")
    _draw(shares_of(scores), tasks_of(scores), path)


def _draw(shares: Sequence[Share], tasks: Sequence[Task], path: Path) -> None:
    from experiments.studies.plane import draw  # drawing takes a second to import

    draw(shares, tasks).savefig(path, dpi=150, metadata={"Software": None})


def _write(
    path: Path, columns: tuple[str, ...], remarks: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    Table(path, columns).start(remarks, [dict(zip(columns, row, strict=True)) for row in rows])


def _row(score: Score) -> tuple[str, ...]:
    units = list(score.values)
    whole = len(units) > 1 and all(after == before + 1 for before, after in pairwise(units))
    named = f"{units[0]}..{units[-1]}" if whole else " ".join(map(str, units))
    values = " ".join(number(value) for value in score.values.values())
    return (score.source, score.task, score.gate, score.measure, named, values)


def _task_row(task: Task) -> tuple[str, ...]:
    difference = task.difference
    numbers = (task.main, task.sum, difference.value, difference.low, difference.high)
    cells = [number(value, ".3f") for value in numbers]
    return (task.source, task.measure, task.task, str(task.units), *cells, task.kind)


def _share_row(share: Share) -> tuple[str, ...]:
    less = share.less_cosine or Estimate(float("nan"), None)
    numbers = [share.value.value, share.value.low, share.value.high]
    numbers += [less.value, less.low, less.high]
    cells = [number(value, ".3f") for value in numbers]
    named = (share.source, share.measure, share.gate, share.share, share.task, str(share.units))
    return (*named, *cells)


def _arm_of(score: Score) -> tuple[str, ...]:
    return (score.source, score.task, score.gate, score.measure)


def read(folder: Path) -> tuple[list[Score], list[str]]:
    """Reads scores.csv and the lines above it; none before it is there."""
    remarks, rows = Table(folder / SCORES, SCORE_COLUMNS).read()
    found = []
    for row in rows:
        first, dots, last = row["units"].partition("..")
        units = range(int(first), int(last) + 1) if dots else map(int, first.split())
        values = map(float, row["values"].split())
        named = (row["source"], row["task"], row["gate"], row["measure"])
        found.append(Score(*named, dict(zip(units, values, strict=True))))
    return found, remarks


def main(arguments: Sequence[str]) -> int:
    """Measures what is asked for, and draws; returns the exit code."""
    options = options_of(Options, arguments, "yardstick.py", __doc__)
    output = Path(options.output)
    try:
        scores, made = measure(options)
        kept, remarks = read(output)
        sources = {score.source for score in scores}
        scores = [score for score in kept if score.source not in sources] + scores
        further, said = added(options)
        # Arms that are there already stay: what was made apart brings main-only learning along.
        scores = list({_arm_of(score): score for score in (*further, *scores)}.values())
        made += said
        if not scores:
            raise ValueError(f"{output} has no {SCORES}: measure first, by --measure tabular.")
        if made:
            lost = ("# command", "# commit", *(f"# {source}:" for source in sources))
            kept_remarks = [line for line in remarks if not line.startswith(lost)]
            head = header("-m experiments.studies.yardstick", arguments, made)
            remarks = [*head, *(line for line in kept_remarks if line not in head)]
        shares = write(scores, remarks, output)
    except ValueError as error:
        print(f"yardstick.py: {error}", file=sys.stderr)
        return 2
    for (source, measured), gates in better(shares).items():
        won = ", ".join(gates) or "none"
        print(f"{source}, {MEASURES[measured]}: better than {REFERENCE} on both axes: {won}.")
    print(f"Figure: {output / FIGURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
