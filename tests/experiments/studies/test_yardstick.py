"""H and L of made scores, what they are read from, and the figure."""

import numpy as np
import pytest
from matplotlib.text import Text

from experiments.statistics import Estimate, Interval
from experiments.studies import yardstick
from experiments.studies.plane import draw
from experiments.studies.shares import Score, Share, better, shares_of, tasks_of

SEEDS = range(8)


def scores(**returns):
    """Scores of arms called task__gate, each a return that all seeds move alike."""
    noise = np.random.default_rng(0).normal(size=len(SEEDS))
    found = []
    for arm, value in returns.items():
        task, _, gate = arm.rpartition("__")
        values = {seed: value + noise[seed] for seed in SEEDS}
        found.append(Score("network", task, gate or "main-only", "final", values))
    return found


# Alone 10; a good teacher adds 4 and a bad one takes 8 when they are added up.
MADE = {"__main-only": 10.0, "good__sum": 14.0, "good__cosine": 12.0, "good__bounded": 13.0}
MADE |= {"bad__sum": 2.0, "bad__cosine": 9.0, "bad__bounded": 9.6, "idle__sum": 10.0}
MADE |= {"idle__cosine": 10.0, "idle__bounded": 10.0}


def test_a_task_counts_where_sum_differs_from_main_only_by_more_than_its_interval():
    kinds = {task.task: task.kind for task in tasks_of(scores(**MADE))}
    assert kinds == {"good": "helps", "bad": "harms", "idle": "open"}


def test_shares_are_of_what_sum_gains_and_loses_and_paired_by_seed():
    found = {(each.share, each.gate): each for each in shares_of(scores(**MADE)) if not each.task}
    # 2 of 4 and 3 of 4 of the help; 1 of 8 and 0.4 of 8 of the harm.
    assert found["helps", "cosine"].value.value == pytest.approx(0.5)
    assert found["helps", "bounded"].value.value == pytest.approx(0.75)
    assert found["harms", "cosine"].value.value == pytest.approx(0.125)
    assert found["harms", "bounded"].value.value == pytest.approx(0.05)
    # What all arms of a seed share cancels out: no interval is left.
    bounded = found["harms", "bounded"].less_cosine
    assert (bounded.low, bounded.high) == pytest.approx((-0.075, -0.075))


def test_better_than_cosine_is_better_on_both_axes_outside_the_intervals():
    assert better(shares_of(scores(**MADE))) == {("network", "final"): ["bounded"]}
    worse = {**MADE, "bad__bounded": 8.0}
    assert better(shares_of(scores(**worse))) == {("network", "final"): []}


def test_tasks_that_a_gate_lacks_are_left_out_of_the_mean_but_not_out_of_the_table():
    more = {**MADE, "worse__sum": 0.0, "worse__cosine": 5.0}
    found = [each for each in shares_of(scores(**more)) if each.gate == "cosine"]
    harm = {each.task: each.value.value for each in found if each.share == "harms"}
    assert harm == pytest.approx({"": 0.125, "bad": 0.125, "worse": 0.5})


def test_what_is_written_is_read_back_and_drawn(tmp_path):
    made = scores(**MADE)
    yardstick.write(made, ["# made by hand"], tmp_path)
    back, remarks = yardstick.read(tmp_path)
    assert remarks == ["# made by hand"]
    assert [each.task for each in back] == [each.task for each in made]
    assert back[2].values == pytest.approx(made[2].values, abs=1e-3)
    assert (tmp_path / "yardstick.png").stat().st_size > 10_000


def test_without_scores_there_is_nothing_to_draw(tmp_path, capsys):
    assert yardstick.main(["--output", str(tmp_path)]) == 2
    assert "measure first, by --measure tabular" in capsys.readouterr().err


def test_names_in_the_figure_do_not_cover_each_other():
    crowd = [(0.9 + 0.01 * n, 0.9 + 0.01 * n) for n in range(9)]
    shares = [
        Share("tabular", "area", f"gate{n}", kind, "", 5, Estimate(x, Interval(x, x)), None)
        for n, place in enumerate(crowd)
        for kind, x in zip(("helps", "harms"), place, strict=True)
    ]
    figure = draw(shares, [])
    figure.draw_without_rendering()
    # Without the lines that join names to their points.
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    overlaps = [a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n]]
    assert len(boxes) == 10
    assert not any(overlaps)


def sweep_of(folder, **returns):
    """A finished sweep of two worlds; returns by gate, main-only learning's among them."""
    folder.mkdir()
    lines = ["setting,temperature,gate,world,area,final"]
    for gate, value in returns.items():
        setting = "" if gate == "main_only" else "cross"
        name = gate.replace("_", "-") if gate == "main_only" else gate
        lines += [f"{setting},0,{name},{world},{value + world},{value + world}" for world in (0, 1)]
    (folder / "worlds.csv").write_text("\n".join(lines) + "\n")
    (folder / "versions.json").write_text('{"commit": "abc", "cpu": "some"}')
    return folder


def test_arms_that_were_made_apart_are_added_and_replace_nothing(tmp_path):
    whole = sweep_of(tmp_path / "whole", main_only=10.0, sum=2.0, cosine=9.0)
    apart = sweep_of(tmp_path / "apart", main_only=11.0, bounded=9.5)
    output = tmp_path / "output"
    assert yardstick.main(["--add", f"tabular={whole}", "--output", str(output)]) == 0
    assert yardstick.main(["--add", f"tabular={apart}", "--output", str(output)]) == 0
    found, remarks = yardstick.read(output)
    final = {s.gate: s.values[0] for s in found if s.measure == "final"}
    assert final == {"main-only": 10.0, "sum": 2.0, "cosine": 9.0, "bounded": 9.5}
    assert "# tabular: also bounded, commit abc, some" in remarks
    both = [f"tabular={whole}", f"tabular={apart}"]
    assert yardstick.main(["--add", *both, "--output", str(tmp_path / "both")]) == 0
    remarks = yardstick.read(tmp_path / "both")[1]
    assert "# tabular: also bounded, commit abc, some" in remarks
    assert sum(line.startswith("# command") for line in remarks) == 1


@pytest.mark.parametrize("given", ["tabular", "tabular=", "network=nowhere"])
def test_what_cannot_be_added_is_said(given, tmp_path, capsys):
    assert yardstick.main(["--add", given, "--output", str(tmp_path)]) == 2
    assert f"--add {given} must be SOURCE=DIR" in capsys.readouterr().err
