"""The files of a finished sweep: tables, summary, verdicts, figure, TensorBoard."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agents.logs.tensorboard import EventFile
from agents.runtime.checkpoint import write_atomically, write_json
from experiments.results import read_table
from experiments.statistics import estimates
from experiments.sweep import figures
from experiments.sweep.arms import SweepArm, arms
from experiments.sweep.folder import Results, from_json, modern, to_json
from experiments.sweep.summary import Summary, Verdict, summarise, verdicts
from experiments.training.run_folder import flat

CURVES, WORLDS, SUMMARY = "curves.csv", "worlds.csv", "summary.json"
VERDICTS, FIGURE, FINALS, EVENTS = "verdicts.txt", "sweep.png", "finals.png", "tensorboard"


def write(results: Results, folder: Path) -> list[Verdict]:
    """Writes all files of a finished sweep and returns its verdicts."""
    words = write_tables(results, folder)
    for figure in (FIGURE, FINALS):
        redraw(folder / figure)
    _write_events(results, folder / EVENTS)
    return words


def redraw(path: Path) -> None:
    """Draws sweep.png or finals.png from the tables next to it, the same bytes from the same ones.

    The file does not name the version of matplotlib, which is no result.
    """
    draw = figures.draw_finals if path.name == FINALS else figures.draw
    draw(read(path.parent)).savefig(path, dpi=160, metadata={"Software": None})


def read(folder: Path) -> figures.Tables:
    """Reads what `write_tables` wrote, and what the figures show."""
    content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    config = from_json(modern(content["config"]))
    curves: dict[tuple[str, ...], list[list[float]]] = {}
    for row in read_table(folder / CURVES)[1]:
        arm = tuple(row[name] for name in _ARM)
        curves.setdefault(arm, []).append([float(row[name]) for name in _POINT])
    by_arm = {arm: np.array(curves[tuple(map(str, _named(arm)))]) for arm in arms(config)}
    return figures.Tables(config, Summary.from_json(content), by_arm)


def write_tables(results: Results, folder: Path) -> list[Verdict]:
    """Writes the tables of a finished sweep and its verdicts, and returns these."""
    summary = summarise(results)
    words = verdicts(results.config, summary)
    _write_table(folder / CURVES, _curves(results))
    _write_table(folder / WORLDS, _worlds(results))
    write_json(
        folder / SUMMARY,
        {"config": to_json(results.config), **summary.to_json()}
        | {"verdicts": [vars(verdict) for verdict in words]},
    )
    write_atomically(folder / VERDICTS, "".join(f"{verdict}\n" for verdict in words).encode())
    return words


def _curves(results: Results) -> Iterable[Sequence[object]]:
    """One line per arm and point."""
    yield (*_ARM, "updates", *_POINT, "cosine", "weight")
    for number, arm in enumerate(results.arms):
        intervals = estimates(results.expected_return[:, number].T)
        for point, (updates, steps, interval) in enumerate(
            zip(results.config.log_points, results.steps, intervals, strict=True)
        ):
            gated = arm.teaching is not None and point > 0
            yield (
                *_named(arm),
                updates,
                int(steps),
                *(interval.value, interval.low, interval.high),
                float(results.cosine[point - 1, number].mean()) if gated else "",
                float(results.weight[point - 1, number].mean()) if gated else "",
            )


def _worlds(results: Results) -> Iterable[Sequence[object]]:
    """One line per arm and world."""
    yield (*_ARM, "world", "final", "area", "teacher", "optimum", "random", "cells", "aliased")
    final, area = results.final(), results.area()
    levels = (results.optimum, results.random, results.cells, results.aliased)
    for number, arm in enumerate(results.arms):
        for world in range(results.num_worlds):
            yield (
                *_named(arm),
                world,
                float(final[number, world]),
                float(area[number, world]),
                "" if arm.teaching is None else float(results.taught_by(arm.teaching)[world]),
                *(float(level[world]) for level in levels),
            )


_ARM = ("setting", "temperature", "gate")
_POINT = ("steps", "return", "low", "high")


def _named(arm: SweepArm) -> tuple[object, ...]:
    if arm.teaching is None:
        return ("", "", arm.gate)
    return (arm.teaching.setting, arm.teaching.temperature, arm.gate)


def _write_table(path: Path, lines: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomically(path, text.getvalue().encode())


def _write_events(results: Results, folder: Path) -> None:
    """Writes the mean curves of all arms, as one TensorBoard run with a chart per teacher."""
    config = results.config
    first = {
        "env": "gridworlds",
        "heads": "teacher",
        "gate": " ".join(config.gates),
        "seed": config.seed,
    }
    names = ["-".join(str(word) for word in _named(arm) if word != "") for arm in results.arms]
    charts: dict[str, list[str]] = {}
    for arm, name in zip(results.arms, names, strict=True):
        if arm.teaching is not None:
            title = f"{arm.teaching.setting}, temperature {arm.teaching.temperature:g}"
            charts.setdefault(title, [f"{names[0]}/return"]).append(f"{name}/return")
    folder.mkdir(parents=True, exist_ok=True)
    # From the start, should the sweep have been written out before.
    file = EventFile(folder, first | flat(to_json(config)), start_step=-1, charts=charts)
    try:
        for point, steps in enumerate(results.steps):
            numbers = {}
            for number, (arm, name) in enumerate(zip(results.arms, names, strict=True)):
                numbers[f"{name}/return"] = float(results.expected_return[point, number].mean())
                if arm.teaching is not None and point > 0:
                    numbers |= {
                        f"{name}/cosine": float(results.cosine[point - 1, number].mean()),
                        f"{name}/weight": float(results.weight[point - 1, number].mean()),
                    }
            file.append(int(steps), numbers)
    finally:
        file.close()
