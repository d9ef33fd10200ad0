import csv
import io
import math
import resource

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.logs.report import METRICS_FILE, NoReport, Report
from agents.logs.terminal import Progress, Split
from envs.episodes import EpisodeSummary


def line(step, mean_return=1.0, **metrics):
    return Progress(
        step=step,
        seconds=step / 100,
        steps_per_second=100.0,
        split=Split(environment=0.25, acting=0.125, learning=0.625),
        episodes=EpisodeSummary(3, 3, mean_return, 30.0),
        learning_rate=0.5,
        metrics=metrics,
    )


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def make(tmp_path, screen):
    """Opens a report in the test's folder."""

    def make(start_step=0):
        console = Console(file=screen, width=80)
        return Report(tmp_path / "run", 5000, {"seed": 1}, start_step=start_step, console=console)

    return make


def rows(folder):
    with (folder / METRICS_FILE).open(newline="") as file:
        return [(int(row["step"]), float(row["return"])) for row in csv.DictReader(file)]


def points(folder):
    events = EventAccumulator(str(folder)).Reload().Scalars("1_return/episode_return")
    return [(event.step, event.value) for event in events]


def test_a_log_line_goes_to_all_three_places(make, tmp_path, screen):
    with make() as report:
        report.note("a note")
        report.log(line(1000, 0.5, entropy=1.25))
        report.log(line(1500, 1.5, entropy=1.0))
    expected = [(1000, 0.5), (1500, 1.5)]
    assert rows(tmp_path / "run") == expected
    assert points(tmp_path / "run") == expected
    assert screen.getvalue().splitlines() == [
        "a note",
        "step 1,000/5,000 (20%)  100 steps/s  ETA 0:40  return 0.50 (3 episodes)",
        "step 1,500/5,000 (30%)  100 steps/s  ETA 0:35  return 1.50 (3 episodes)",
    ]


def test_a_resumed_run_goes_on_from_its_checkpoint_with_no_point_twice(make, tmp_path):
    with make() as report:
        for step in (1000, 2000, 3000):
            report.log(line(step, 1.0))
    with make(start_step=2000) as report:
        for step in (2500, 3000):
            report.log(line(step, 2.0))
    expected = [(1000, 1.0), (2000, 1.0), (2500, 2.0), (3000, 2.0)]
    assert rows(tmp_path / "run") == expected
    assert points(tmp_path / "run") == expected


def test_a_run_that_was_killed_has_all_its_lines_on_the_disk(make, tmp_path):
    report = make()
    report.log(line(1000))
    report.log(line(2000))
    assert rows(tmp_path / "run") == points(tmp_path / "run") == [(1000, 1.0), (2000, 1.0)]
    report.close()


def test_pictures_go_to_tensorboard_alone(make, tmp_path, screen):
    with make() as report:
        report.show(1000, {"cosines": np.zeros((1, 2, 3), dtype=np.uint8)})
        report.show(2000, {})
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    (image,) = events.Images("2_cosine/all")
    assert (image.step, image.height, image.width) == (1000, 1, 2)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("full", ["metrics.csv", "events.out.tfevents.*"])
def test_a_full_disk_is_an_os_error_and_what_was_written_stays_readable(make, tmp_path, full):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    report = make()
    # The one file grows faster by many metrics, the other is longer from the beginning.
    many = {f"metric_{i}": 0.123456 for i in range(2000 if full == "metrics.csv" else 0)}
    report.log(line(1000, **many))
    [file] = (tmp_path / "run").glob(full)
    limit = file.stat().st_size + 5
    try:
        with pytest.raises(OSError, match="File too large") as raised, report:  # noqa: PT012
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            report.log(line(2000, **many))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.__context__ is None  # not a second error from closing
    assert points(tmp_path / "run") == [(1000, 1.0)]
    with make(start_step=1000) as report:
        report.log(line(1500))
    assert rows(tmp_path / "run") == points(tmp_path / "run") == [(1000, 1.0), (1500, 1.0)]


def test_a_report_closes_its_files_whatever_happened(make, tmp_path):
    with pytest.raises(KeyError), make() as report:  # noqa: PT012
        report.log(line(1000))
        raise KeyError
    with make(start_step=1000) as report:
        report.log(line(2000))
    assert rows(tmp_path / "run") == [(1000, 1.0), (2000, 1.0)]


def test_between_two_lines_nothing_is_written(make, tmp_path, screen):
    with make() as report:
        report.log(line(1000))
        report.tick(1200, 12.0)
    assert rows(tmp_path / "run") == points(tmp_path / "run") == [(1000, 1.0)]
    assert len(screen.getvalue().splitlines()) == 1


def test_a_watched_line_moves_between_two_lines_of_the_log(tmp_path):
    screen = io.StringIO()
    console = Console(
        file=screen, width=80, height=24, force_terminal=True, _environ={"TERM": "xterm"}
    )
    with Report(tmp_path, 5000, {}, console=console) as report:
        report.tick(250, 1.0)
    assert "250/5,000" in screen.getvalue()


def test_an_evaluation_is_a_row_of_its_table_and_a_point_and_is_cut_on_a_resume(make, tmp_path):
    evaluation = {"episodes": 8.0, "mean": 1.5, "optimum": math.nan}
    with make() as report:
        report.log(line(1000))
        report.evaluated(1000, evaluation)
        report.evaluated(2000, evaluation)
    with make(start_step=1000) as report:
        report.evaluated(1500, evaluation)
    folder = tmp_path / "run"
    assert (folder / "evaluations.csv").read_text().splitlines() == [
        "step,mean,episodes,optimum",
        "1000,1.5,8,",
        "1500,1.5,8,",
    ]
    events = EventAccumulator(str(folder)).Reload()
    found = [(event.step, event.value) for event in events.Scalars("1_evaluation/return")]
    assert found == [(1000, 1.5), (1500, 1.5)]
    assert "1_evaluation/optimum" not in events.Tags()["scalars"]
    assert rows(folder) == [(1000, 1.0)]


def test_a_process_that_does_not_report_says_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with NoReport() as report:
        report.note("a note")
        report.tick(250, 1.0)
        report.log(line(1000))
        report.evaluated(1000, {"mean": 1.0})
        report.show(1000, {"cosines": np.zeros((1, 1, 3), dtype=np.uint8)})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_process_that_does_not_report_hides_no_error():
    with pytest.raises(KeyError), NoReport():
        raise KeyError
