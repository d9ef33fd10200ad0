import csv
import json

import pytest

from agents.logs.tensorboard import PREFIX
from experiments.sweep.output import write


def final(arm):
    return 9.0 if arm.teaching is None else 4.0 + arm.teaching.temperature


@pytest.fixture
def folder(build_results, tmp_path):
    write(build_results(final, noise=0.0), tmp_path)
    return tmp_path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_is_written(folder):
    assert {path.name for path in folder.iterdir()} == {
        "curves.csv",
        "worlds.csv",
        "summary.json",
        "verdicts.txt",
        "sweep.png",
        "finals.png",
        "tensorboard",
    }
    content = json.loads((folder / "summary.json").read_text())
    lines = (folder / "verdicts.txt").read_text().splitlines()
    claims = [verdict["claim"] for verdict in content["verdicts"]]
    assert all(line.startswith(claim) for claim, line in zip(claims, lines, strict=True))
    assert content["config"]["worlds"] == 20


def test_curves_have_a_line_for_each_arm_and_point(folder):
    found = rows(folder / "curves.csv")
    assert len(found) == 9 * 21
    # The second arm is sum with a cold misleading teacher; its curve rises for 200 updates.
    assert found[21] == {
        "setting": "cross",
        "temperature": "0.0",
        "gate": "sum",
        "updates": "0",
        "steps": "0",
        "return": "0.0",
        "low": "0.0",
        "high": "0.0",
        "cosine": "",
        "weight": "",
    }
    # The sixth point: after 25 updates of 6 steps, an eighth of the rise.
    assert (found[26]["updates"], found[26]["steps"]) == ("25", "150")
    assert float(found[26]["return"]) == pytest.approx(0.5)
    assert (found[26]["cosine"], found[26]["weight"]) == ("0.25", "0.5")
    assert (found[5]["gate"], found[5]["setting"], found[5]["cosine"]) == ("main-only", "", "")


def test_worlds_have_a_line_for_each_arm_and_world(folder):
    found = rows(folder / "worlds.csv")
    assert len(found) == 9 * 20
    last = found[-1]
    assert (last["gate"], last["setting"], last["world"]) == ("cosine", "same", "19")
    # 4 + the temperature; three quarters of it on average; the fourth teacher.
    assert float(last["final"]) == pytest.approx(5.0)
    assert float(last["area"]) == pytest.approx(3.75, abs=0.01)
    assert (last["teacher"], last["optimum"], last["aliased"]) == ("3.0", "10.0", "4.0")
    assert found[0]["teacher"] == ""


def test_every_arm_is_a_run_of_tensorboard(folder):
    runs = {path.name for path in (folder / "tensorboard").iterdir()}
    assert len(runs) == 9
    assert {"main-only", "cross-0.0-sum", "same-1.0-cosine"} <= runs
    [events] = (folder / "tensorboard" / "cross-0.0-sum").iterdir()
    assert events.name.startswith(PREFIX)
    content = events.read_bytes()
    assert b"1_return/episode_return" in content
    assert b"2_cosine/teacher" in content
    [alone] = (folder / "tensorboard" / "main-only").iterdir()
    assert b"2_cosine/teacher" not in alone.read_bytes()


def test_written_again_it_is_the_same(build_results, folder):
    names = ("curves.csv", "worlds.csv", "summary.json", "verdicts.txt", "sweep.png", "finals.png")
    before = [(folder / name).read_bytes() for name in names]
    write(build_results(final, noise=0.0), folder)
    assert [(folder / name).read_bytes() for name in names] == before
