"""`study.py` as a program: killed and resumed, stopped, failed; and on what it can be started."""

import signal
import time

import pytest

from configs.errors import UsageError
from configs.grid import expand
from configs.study import own_flags, read_file
from experiments.running.backends import Local
from experiments.running.folder import last_step
from experiments.running.request import plan, read_arguments
from tests.faults.studies import ROOT, assert_equal, kill_all, numbers, start

STUDY_FILES = sorted((ROOT / "configs" / "studies").glob("*.toml"))
GRID = "--env Catch --aux none inverse --seeds 1 --steps 60000 --checkpoint-minutes 0.005"
NAMES = ("Catch-main-s1", "Catch-inverse-cosine-s1")


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@pytest.mark.slow  # three studies of several processes
def test_a_study_that_is_killed_stopped_and_resumed_ends_as_one_that_is_not(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    line = [*GRID.split(), "--jobs", "2"]
    process = start(*line, "--output", str(whole))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"Done: 2 runs in {whole}." in output
    assert (whole / "report" / "curves.png").is_file()

    process = start(*line, "--output", str(broken))
    wait_for(lambda: all((last_step(broken / name) or 0) > 256 for name in NAMES))
    kill_all(process)
    process = start("--resume", str(broken), "--jobs", "1")
    before = last_step(broken / NAMES[0])
    wait_for(lambda: (last_step(broken / NAMES[0]) or 0) > before or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert f"python study.py --resume {broken}" in output
    process = start("--resume", str(broken), "--jobs", "2")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    for name in NAMES:
        (state, rows), (other, others) = numbers(whole / name), numbers(broken / name)
        assert_equal(state, other)
        # A run that is asked to stop logs once more, and means over less than an interval differ.
        returns, other_returns = (
            [(row["step"], row["return"], row["episodes"]) for row in log] for log in (rows, others)
        )
        assert [row for row in returns if row not in other_returns] == []


RUNS = {
    "adversarial": 85,
    "breakout_distill": 9,
    "catch_gates": 30,
    "gridworld_heads": 45,
    "heads": 230,
    "gates": 75,
    "gates_heads": 21,
    "gates_privileged": 18,
    "teachers": 8,
    "breakout_overtaken": 8,
    "breakout_long": 12,
    "krull_heads": 15,
    "minigrid_heads": 52,
    "minigrid_teachers": 90,
    "breakout_teachers": 24,
    "temperature_breakout": 18,
    "atari100k": 45,
    "tasks": 81,
}
"""Of every shipped study: seeds times arms."""


@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda file: file.stem)
def test_every_shipped_study_expands(file):
    _, runs = plan(read_arguments([str(file)]), Local(1, 0))
    assert len(runs) == RUNS[file.stem]
    assert len({run.name for run in runs}) == len(runs)


def test_a_flag_of_no_run_is_refused_in_a_file_too(tmp_path):
    (tmp_path / "study.toml").write_text('env = "Catch"\n"lerning-rate" = 1\n')
    with pytest.raises(UsageError, match="did you mean --learning-rate"):
        expand(read_file(tmp_path / "study.toml", own_flags())[1], {})
