"""Every committed figure can be drawn again, and is then the same picture."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.redraw import COMPUTED, DRAWERS, main

LEFT = {*COMPUTED, "pairs_cosine.png", "rotated_cosine.png"}
"""The last two are older than the tables of such figures."""
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def copied(name, folder):
    """Copies the files of a folder of results, with a blank picture for each figure."""
    (folder / name).mkdir(parents=True)
    for path in (RESULTS / name).iterdir():
        if path.suffix == ".png":
            Image.new("RGB", (1, 1)).save(folder / name / path.name)
        elif path.is_file():
            shutil.copy(path, folder / name)
    return folder / name


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_every_figure_of_the_results_has_a_drawer():
    names = {path.name for path in RESULTS.rglob("*.png")}
    assert names - {*DRAWERS, *COMPUTED} == set()


@pytest.mark.parametrize(
    "name",
    [
        "adversarial_policy",
        "breakout_phantom",
        "breakout_ppo",
        "examples",
        "examples/supervised",
        "gridworld_agent",
        "heads_gridworld_ahead",
        "reward_scale",
        "sweep_gates",
    ],
)
def test_a_figure_is_drawn_from_the_tables_next_to_it(name, tmp_path, capsys):
    folder = copied(name, tmp_path)
    tables = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"}
    assert main([str(folder)]) == 0
    assert {path: path.read_bytes() for path in tables} == tables
    assert sorted(folder.iterdir()) == sorted(
        folder / path.name for path in (RESULTS / name).iterdir() if path.is_file()
    )
    for line in capsys.readouterr().out.splitlines():
        figure, _, became = line.partition(": ")
        assert (became == "drawn") == (figure not in LEFT)
        if figure in LEFT:
            continue
        drawn, committed = pixels(folder / figure), pixels(RESULTS / name / figure)
        assert drawn.shape == committed.shape
        # Tables have fewer digits than what some committed figures were drawn from.
        assert (abs(drawn - committed).max(-1) > 64).mean() < 0.002


def test_what_cannot_be_drawn_is_left_and_said(tmp_path, capsys):
    for name in ("vectors.png", "mine.png", "heads.png", "deeper/sweep.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"as it was")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "deeper/sweep.png: left: there is no summary.json to draw it from",
        f"heads.png: left: {tmp_path} has no runs: give the folder of a STUDY.",
        "mine.png: left: benchmarks/redraw.py knows no figure of this name",
        "vectors.png: left: computed by examples/vectors.py, not drawn from a table",
    ]
    assert {path.read_bytes() for path in tmp_path.rglob("*.png")} == {b"as it was"}


def test_a_damaged_table_is_said_and_the_next_figure_is_drawn(tmp_path, capsys):
    for name in ("learning", "learning_minigrid"):
        shutil.copytree(RESULTS / name, tmp_path / name)
    table = tmp_path / "learning" / "curves.csv"
    table.write_text(table.read_text().replace("core_seconds", "seconds"))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "learning/learning.png: left: its table is damaged or of another version (there is no "
        "'core_seconds')",
        "learning_minigrid/learning.png: drawn",
    ]


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_figures_is_a_mistake(name, tmp_path, capsys):
    assert main([str(tmp_path / name)]) == 2
    assert f"there is no figure in {tmp_path / name}: " in capsys.readouterr().err
