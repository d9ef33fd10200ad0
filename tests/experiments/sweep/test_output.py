import csv
import json
import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

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


def test_a_sweep_is_one_run_of_tensorboard_with_the_curves_of_all_arms(folder):
    [events] = (folder / "tensorboard").iterdir()
    assert events.name.startswith(PREFIX)
    accumulator = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = accumulator.Tags()["scalars"]
    returns = [tag for tag in tags if tag.startswith("1_return/")]
    assert len(returns) == 9
    assert {"1_return/main-only", "1_return/cross-0.0-sum", "1_return/same-1.0-cosine"} <= {*tags}
    assert "2_cosine/cross-0.0-sum" in tags
    assert "2_cosine/main-only" not in tags
    # 4 + the temperature, at the end of the curve.
    assert accumulator.Scalars("1_return/cross-1.0-sum")[-1].value == pytest.approx(5.0)


def test_tensorboard_has_a_chart_for_each_teacher(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard")).Reload()
    [layout] = accumulator.Tensors("custom_scalars__config__")
    [category] = Layout.FromString(layout.tensor_proto.string_val[0]).category
    assert [chart.title for chart in category.chart] == [
        "cross, temperature 0",
        "cross, temperature 1",
        "same, temperature 0",
        "same, temperature 1",
    ]
    tags = accumulator.Tags()["scalars"]
    shown = [
        tag for tag in tags if any(re.match(line, tag) for line in category.chart[1].multiline.tag)
    ]
    assert shown == ["1_return/main-only", "1_return/cross-1.0-sum", "1_return/cross-1.0-cosine"]


def test_written_again_it_is_the_same(build_results, folder):
    names = ("curves.csv", "worlds.csv", "summary.json", "verdicts.txt", "sweep.png", "finals.png")
    before = [(folder / name).read_bytes() for name in names]
    write(build_results(final, noise=0.0), folder)
    assert [(folder / name).read_bytes() for name in names] == before
