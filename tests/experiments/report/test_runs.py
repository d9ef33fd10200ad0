"""What is computed of a run's curve, and files that are no runs."""

from pathlib import Path

import numpy as np
import pytest

from experiments.report.runs import FIRST_LINE, Run, is_run, parse, read

NAN = float("nan")


@pytest.fixture
def curve(config_of):
    """Builds a run of given steps and returns."""

    def curve(steps, returns):
        config = config_of("--env Catch --steps 100")
        columns = {"return": np.array(returns)}
        return Run(Path("run.csv"), {}, config, np.array(steps, float), columns)

    return curve


def test_final_is_the_mean_of_the_last_tenth_of_the_steps(curve):
    # 90, 95 and 100 of 100 steps: (4 + 5 + 9) / 3.
    assert curve([50, 89, 90, 95, 100], [9.0, 9, 4, 5, 9]).final == 6


def test_where_nothing_was_measured_so_late_the_last_measurement_is_final(curve):
    assert curve([10, 50, 95, 100], [1.0, 7, NAN, NAN]).final == 7


def test_points_without_a_return_do_not_count(curve):
    assert curve([90, 95, 100], [2.0, NAN, 4]).final == 3


def test_the_area_weighs_each_point_by_the_steps_around_it(curve):
    # 10 steps at a mean of 1, 90 steps at a mean of 4: (10 + 360) / 100.
    assert curve([0, 10, 100], [0.0, 2, 6]).area == pytest.approx(3.7)
    # The same straight line, whether it has a point in its middle or not.
    assert curve([0, 100], [0.0, 6]).area == curve([0, 25, 100], [0.0, 1.5, 6]).area == 3


def test_the_area_of_a_single_point_is_its_return(curve):
    assert curve([50, 100], [NAN, 5.0]).area == 5


def test_a_run_is_finished_at_the_steps_it_was_meant_to_take(curve):
    assert curve([50, 100], [0.0, 0]).finished
    assert not curve([50, 99], [0.0, 0]).finished


def test_what_was_not_logged_was_not_measured(curve):
    step, values = curve([50, 100], [0.0, 0]).measured("distill/cosine")
    assert len(step) == len(values) == 0


def test_a_file_is_a_run_by_its_first_line(tmp_path):
    for name, text in (("run", f"{FIRST_LINE}\n# env: X\n"), ("table", "env,arm\n"), ("none", "")):
        (tmp_path / name).write_text(text)
        assert is_run(tmp_path / name) == (name == "run")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff\xfe")
    assert not is_run(tmp_path / "picture")


@pytest.mark.parametrize(
    "text",
    [
        f"{FIRST_LINE}\n",
        f"{FIRST_LINE}\n# config: {{}}\nstep,return\n",
        f"{FIRST_LINE}\n# config: {{\nstep,return\n1,2\n",
        f"{FIRST_LINE}\n# config: {{}}\nstep,return\n1,\n",
        f"{FIRST_LINE}\n# config: {{}}\nstep,return\n1,x\n",
        f"{FIRST_LINE}\n# config: {{}}\nstep,length\n1,2\n",
    ],
)
def test_a_damaged_file_is_refused_by_name(text, tmp_path):
    with pytest.raises(ValueError, match=r"broken\.csv is damaged"):
        parse(text, tmp_path / "broken.csv")


def test_a_file_says_where_it_lies_and_what_its_lines_say(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(
        f"{FIRST_LINE}\n# commit: c0ffee: dirty\n# teacher: 50.9\n"
        '# evaluation: {"mean": 2.0}\n'
        '# config: {"choice": {"env": "Pong"}, "run": {"seed": 4, "steps": 20}}\n'
        "step,return,entropy\n10,1.5,\n20,2.5,0.25\n"
    )
    run = read(path)
    assert (run.path, run.env, run.seed, run.steps) == (path, "Pong", 4, 20)
    assert (run.about["commit"], run.teacher) == ("c0ffee: dirty", 50.9)
    assert run.evaluation == {"mean": 2.0}
    assert run.columns["return"].tolist() == [1.5, 2.5]
    assert [values.tolist() for values in run.measured("entropy")] == [[20.0], [0.25]]
