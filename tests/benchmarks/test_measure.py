import math
import subprocess
from pathlib import Path

import pytest

from benchmarks import measure as module
from benchmarks.measure import Measurement, commit_of, hardware_of, measure, middle, train_run

ROOT = Path(__file__).resolve().parent.parent.parent


def table(tmp_path, text):
    """A file of these lines, and a command that writes nothing more."""
    path = tmp_path / "table.csv"
    path.write_text(text, "utf-8")
    return ["-c", ""], path


def test_the_speed_is_that_after_the_warm_up(tmp_path):
    command, path = table(tmp_path, "step,seconds\n8,9\n16,10\n24,11\n56,14\n")
    # From step 16 on: (56 - 16) steps in (14 - 10) seconds.
    assert measure(command, path, warm_up=10).steps_per_second == 10
    # A line at the very end of the warm-up begins what counts: (56 - 8) / (14 - 9).
    assert measure(command, path, warm_up=8).steps_per_second == pytest.approx(9.6)


def test_the_split_of_the_time_is_averaged_over_what_counts(tmp_path):
    lines = "step,seconds,environment,acting\n1,1,9,9\n2,2,0.2,0.3\n3,3,0.4,0.1\n"
    measured = measure(*table(tmp_path, lines), warm_up=1)
    # The line that begins tells of the time before it.
    assert (measured.environment, measured.acting) == pytest.approx((0.3, 0.2))


def test_a_table_without_a_split_has_none(tmp_path):
    measured = measure(*table(tmp_path, "step,seconds\n1,1\n2,2\n"), warm_up=0)
    assert math.isnan(measured.environment)
    assert math.isnan(measured.acting)


def test_a_run_that_ends_with_its_warm_up_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give more steps"):
        measure(*table(tmp_path, "step,seconds\n1,1\n2,2\n"), warm_up=2)


def test_a_run_is_measured_by_lines_that_lie_in_the_part_that_counts(tmp_path, monkeypatch):
    asked = []

    def recorded(command, path, warm_up):
        asked.append((command, path, warm_up))
        return Measurement(1.0, 2.0)

    monkeypatch.setattr(module, "measure", recorded)
    train_run(["--env", "Catch"], tmp_path / "run", steps=900, warm_up=100)
    ((command, path, warm_up),) = asked
    assert command[:3] == ["train.py", "--env", "Catch"]
    assert command[command.index("--steps") + 1] == "900"
    # Eight lines in 900 - 100 steps.
    assert command[command.index("--log-steps") + 1] == "100"
    assert command[command.index("--run-dir") + 1] == str(tmp_path / "run")
    assert (path, warm_up) == (tmp_path / "run" / "metrics.csv", 100)


def test_the_median_of_the_runs_counts():
    assert middle([Measurement(speed, 0.0) for speed in (5.0, 100.0, 7.0)]) == 7.0


def test_the_commit_of_a_clone_is_told_and_that_of_a_plain_folder_is_unknown(tmp_path):
    assert commit_of(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    assert len(commit_of(tmp_path)) == 40


def test_the_hardware_is_what_the_flags_ask_for():
    flags = "--env Catch --device cpu --threads 3 --precision bf16"
    hardware = hardware_of(flags.split())
    assert (hardware.device.type, hardware.threads, hardware.precision) == ("cpu", 3, "bf16")


def test_flags_that_a_run_would_refuse_are_refused():
    with pytest.raises(ValueError, match="--treads is not an option"):
        hardware_of(["--env", "Catch", "--treads", "3"])
