import io

import pytest
from rich.console import Console

from experiments.running.watch import Speeds, Watch, kind, look, measured_speeds, summary, tail


def test_the_last_whole_line_of_a_log_says_step_and_speed(tmp_path):
    assert tail(tmp_path) == (0, 0.0)
    (tmp_path / "metrics.csv").write_text("step,return,sps\n64,,10.5\n128,1,20\n19")
    assert tail(tmp_path) == (128, 20.0)
    (tmp_path / "metrics.csv").write_text("step,return,sps\n")
    assert tail(tmp_path) == (0, 0.0)


def test_a_speed_is_guessed_from_the_runs_that_are_most_alike():
    speeds = Speeds([(("catch", "Catch", ""), 100.0), (("catch", "Catch", "spr"), 50.0)])
    assert speeds.guess(("catch", "Catch", "spr")) == 50
    assert speeds.guess(("catch", "Catch", "inverse")) == 75
    assert speeds.guess(("atari", "Pong", "")) is None


def test_the_time_that_is_left_comes_from_speeds_and_jobs(study, trained):
    made = study("--seed 1 2 3")
    for name, step in (("Catch-main-s1", 100), ("Catch-main-s2", 50)):
        folder = trained(made.folder / name, (step,), step)
        (folder / "metrics.csv").write_text(f"step,sps\n{step},10\n")
    progress = look(made.folder, made.runs(), jobs=2)
    assert [row.state for row in progress.rows.values()] == ["done", "waiting", "waiting"]
    # 50 and 100 steps are left at 10 a second; two at a time, the longer one takes 10 s.
    progress.rows["Catch-main-s1"].speed = 10.0
    assert progress.seconds_left() == pytest.approx(10.0)
    assert summary(progress) == "1 done, 0 running, 2 waiting of 3 runs; 0 steps/s; ETA 0:10"


def test_the_live_table_shows_failures_first(study):
    made = study()
    progress = look(made.folder, made.runs(), jobs=2)
    first, second, *_ = progress.rows.values()
    first.state, first.step = "running", 50
    second.state, second.reason = "failed", "the device has too little memory"
    text = io.StringIO()
    with Watch(progress, Console(file=text, force_terminal=True, width=120)):
        pass
    shown = text.getvalue()
    assert shown.index("too little memory") < shown.index(first.run.name)
    assert "1 failed" in shown


def test_the_committed_speeds_are_read(study):
    runs = study().runs()
    assert measured_speeds().guess(kind(runs[0].config)) > 0
