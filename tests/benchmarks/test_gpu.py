"""The measurements on a GPU, rehearsed on the CPU."""

import csv
import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import gpu, gpu_wheels
from benchmarks.gpu import OutOfTimeError, limit, main, run
from benchmarks.gpu_stages import STAGES, Bench, Stage
from benchmarks.gpu_wheels import ENTRY, LEFT_OUT, PACKAGES, USUAL_PYTHON, carried, cut_down
from experiments.results import Table, read_table
from experiments.training.session import Session

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so(capsys, tmp_path):
    assert main(["--output", str(tmp_path / "gpu")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "finds no GPU here" in said
    assert not (tmp_path / "gpu").exists()


def test_an_unknown_stage_is_refused(capsys):
    assert main(["--device", "cpu", "--stages", "sweeps"]) == 2
    assert "choose from" in capsys.readouterr().err


def test_the_stages_take_less_than_eight_minutes():
    assert sum(stage.seconds for stage in STAGES) <= 450


def test_a_stage_that_is_stopped_or_fails_keeps_what_it_has_measured(tmp_path):
    def sleeps(bench):
        yield 1, "first"
        time.sleep(30)

    def fails(bench):
        yield 1, "first"
        raise ValueError("no such kernel")

    for work, end in ((sleeps, "stopped after its 1 s"), (fails, "failed: ValueError: no such")):
        table = Table(tmp_path / f"{work.__name__}.csv", ("number", "word"))
        table.start(["# a test"])
        count, said = run(
            Stage(1, "number,word", work), Bench(torch.device("cpu"), False, tmp_path), table
        )
        assert (count, said[: len(end)]) == (1, end)
        assert read_table(table.path)[1] == [{"number": "1", "word": "first"}]


def test_a_stage_whose_program_fails_has_failed_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def sweep(bench):
        yield bench.run("-c", "print('so far'); raise SystemExit('no kernel [/sm_90] here')")[0], 1
        yield bench.run("-c", "print('well')")[0], 2

    def learning(bench):
        yield bench.run("-c", "print('well')")[0], 1

    stages = tuple(Stage(60, "exit_code,number", rows) for rows in (sweep, learning))
    monkeypatch.setattr(gpu, "STAGES", stages)
    assert main(["--device", "cpu", "--output", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: -c ended with exit code 1: no kernel [/sm_90] here" in said
    assert [row["exit_code"] for row in read_table(tmp_path / "sweep.csv")[1]] == ["1", "0"]
    assert [row["exit_code"] for row in read_table(tmp_path / "learning.csv")[1]] == ["0"]
    # What failed in one stage is not held against the next.
    assert re.search(r"learning │ [\d.]+ │ 1 │ done", said)


@pytest.mark.seconds
def test_what_is_to_be_exact_and_is_not_has_failed(tmp_path, monkeypatch):
    (exactness,) = (stage for stage in STAGES if stage.name == "exactness")
    monkeypatch.setattr(Session, "restore", lambda *_: "nothing was restored")
    table = Table(tmp_path / "exactness.csv", exactness.columns.split(","))
    table.start(["# a test"])
    count, said = run(exactness, Bench(torch.device("cpu"), True, tmp_path), table)
    assert count == 5
    assert said == "failed: resumed does not hold (nothing was restored)"


def test_a_limit_is_not_taken_for_a_failure_of_what_it_stops():
    def sleeps():
        try:
            time.sleep(30)
        except Exception:
            return "an `except Exception` must not hide the limit"

    with pytest.raises(OutOfTimeError), limit(0.05):
        sleeps()


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as content:
        for name, text in files.items():
            content.writestr(name, text)
    return path


def test_a_wheel_is_unpacked_where_its_package_is_missing_and_programs_find_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", "here")
    wheel(tmp_path / "a.whl", {"quite_unknown/__init__.py": "", "quite-1.dist-info/RECORD": ""})
    wheel(tmp_path / "b.whl", {"torch/__init__.py": "raise ValueError"})
    target = carried(tmp_path)
    assert sorted(path.name for path in target.iterdir()) == ["quite-1.dist-info", "quite_unknown"]
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["here", str(target)]


MACHINE = default_environment() | {
    "extra": "",
    "python_version": USUAL_PYTHON,
    "python_full_version": f"{USUAL_PYTHON}.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}
"""What the conditions in requirements are about: the usual machine with a GPU."""


def named(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def closure(requirements, without=()):
    """The packages that requirements lead to, as the packages installed here tell it."""
    found, waiting = set(), list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        unasked = requirement.marker is not None and not requirement.marker.evaluate(MACHINE)
        if not unasked and name not in found and name not in without:
            found.add(name)
            waiting += requires(name) or []
    return found


@pytest.mark.atari
def test_the_wheels_have_all_that_a_machine_with_torch_and_numpy_lacks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["envpool"]]
    wanted = [line for line in wanted if not line.startswith("auxgate[")]
    there = closure(["torch", "numpy"])
    needed = closure([*wanted, "pytest", "hypothesis"], without=LEFT_OUT) - there
    assert needed - named(PACKAGES) == set()
    # Only what others ask for may be left out.
    assert named(wanted) & named(LEFT_OUT) == set()


def test_wheels_are_fetched_anew_for_the_python_that_is_named(tmp_path, monkeypatch, capsys):
    folder, commands = tmp_path / "wheels", []

    def fetched(command, check):
        commands.append(command)
        wheel(folder / "new.whl", {"new.py": ""})
        return subprocess.CompletedProcess(command, 0)

    folder.mkdir()
    wheel(folder / "old.whl", {"old.py": ""})
    monkeypatch.setattr(gpu_wheels, "FOLDER", folder)
    monkeypatch.setattr(gpu_wheels.subprocess, "run", fetched)
    assert gpu_wheels.main(["--python", "3.11"]) == 0
    [command] = commands
    assert command[command.index("--python-version") + 1] == "3.11"
    assert [path.name for path in folder.iterdir()] == ["new.whl"]
    assert capsys.readouterr().out.startswith("1 wheels, 0.0 MiB")


def test_of_envpool_atari_is_left(tmp_path):
    names = ["__init__.py", "entry.py", "atari/a.so", "procgen/b.so", "python/api.py"]
    path = wheel(tmp_path / "envpool.whl", {f"envpool/{name}": "all of it" for name in names})
    cut_down(path)
    with zipfile.ZipFile(path) as content:
        left = {name: content.read(name).decode() for name in content.namelist()}
    assert left.pop("envpool/entry.py") == ENTRY
    assert sorted(left) == ["envpool/__init__.py", "envpool/atari/a.so", "envpool/python/api.py"]


@pytest.mark.slow
@pytest.mark.atari
def test_all_stages_are_rehearsed_on_the_cpu(tmp_path):
    command = ["benchmarks/gpu.py", "--device", "cpu", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in STAGES:
        remarks, rows = read_table(tmp_path / f"{stage.name}.csv")
        assert rows, stage.name
        assert any(remark.startswith("# commit: ") for remark in remarks)
    with (tmp_path / "exactness.csv").open(encoding="utf-8") as file:
        checks = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [check["holds"] for check in checks] == ["True"] * 5
