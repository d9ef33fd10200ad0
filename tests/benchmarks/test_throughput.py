import csv
from math import nan

import pytest

import experiments.training.hardware
from benchmarks import throughput
from benchmarks.measure import Measurement
from benchmarks.throughput import ARMS, Options, Setting, main, report, settings
from configs.cli import parse

SMALL = "--env Catch --device cpu --threads 1 --precision fp32 --steps 96 --warm-up 24 --rounds 1"


def options(**given):
    return Options(**{"env": "Catch", "device": "cpu", "arms": ("main only",)} | given)


def table(lines):
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_a_setting_holds_only_what_makes_a_difference_to_its_part():
    asked = options(threads=(1, 2), precision=("fp32", "bf16"), num_envs=(8, 64))
    found = settings(asked, [])
    # What PyTorch computes with is nothing to environments that are alone.
    assert [each for each in found if each.part == "env"] == [Setting("env", 8), Setting("env", 64)]
    # One thread chooses the actions, however many learn.
    assert [each for each in found if each.part == "act"] == [
        Setting("act", num_envs, precision=precision)
        for num_envs in (8, 64)
        for precision in ("fp32", "bf16")
    ]
    assert [each for each in found if each.part == "all"] == [
        Setting("all", num_envs, threads, precision, "main only")
        for num_envs in (8, 64)
        for threads in (1, 2)
        for precision in ("fp32", "bf16")
    ]


def test_the_choice_of_threads_and_precision_is_that_of_the_run(monkeypatch):
    monkeypatch.setattr(
        experiments.training.hardware, "choose_precision", lambda device: ("bf16", "it is tried")
    )
    asked = options(parts=("all",), threads=(0, 3), precision=("auto", "bf16"))
    found = settings(asked, [])
    # Auto is bf16 here, so there is one setting of each number of threads.
    assert {each.precision for each in found} == {"bf16"}
    assert len(found) == 2
    assert {each.threads for each in found} >= {3}
    assert 0 not in {each.threads for each in found}


def test_a_setting_becomes_the_flags_that_make_it():
    setting = Setting("all", 8, 3, "bf16", "main only")
    run = parse(setting.flags(options(), ["--unroll-length", "5"])).run
    assert (run.num_envs, run.threads, run.precision) == (8, 3, "bf16")
    assert (run.device, run.unroll_length) == ("cpu", 5)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_command_that_is_taken(arm):
    flags = Setting("all", 8, 1, "fp32", arm).flags(options(), [])
    assert (parse(flags).choice.gate is None) == (arm == "main only")


def test_arms_are_compared_with_the_first_one_of_the_same_setting_and_parts_with_the_environment():
    def runs(*speeds, environment=nan, acting=nan):
        return [Measurement(speed, 10 * speed, environment, acting) for speed in speeds]

    asked = options(arms=("sum", "cosine"))
    lines = report(
        asked,
        {
            Setting("env", 8): runs(400.0, 500.0, 450.0),
            Setting("act", 8, precision="fp32"): runs(300.0),
            Setting("all", 8, 1, "fp32", "sum"): runs(90.0, environment=0.5, acting=0.25),
            Setting("all", 8, 1, "fp32", "cosine"): runs(45.0),
            Setting("all", 8, 2, "fp32", "sum"): runs(180.0),
            Setting("all", 8, 2, "fp32", "cosine"): runs(60.0),
            Setting("all", 64, 1, "fp32", "sum"): runs(200.0),
        },
    )
    rows = table(lines)
    # Medians; the first of them 450, so 300 / 450, 90 / 450, ...
    assert [row["steps_per_second"] for row in rows] == [
        *("450", "300", "90", "45", "180", "60", "200")
    ]
    assert [row["ratio"] for row in rows] == [
        *("1.000", "1.000", "1.000", "0.500", "1.000", "0.333", "1.000")
    ]
    shares = ["1.000", "0.667", "0.200", "0.100", "0.400", "0.133", ""]
    assert [row["of_environment"] for row in rows] == shares
    assert rows[0]["runs"] == "400 500 450"
    assert rows[0]["peak_mebibytes"] == "5000"  # the largest
    assert (rows[2]["environment"], rows[2]["acting"]) == ("0.50", "0.25")
    assert (rows[3]["environment"], rows[3]["acting"]) == ("", "")
    assert [row["threads"] for row in rows[:3]] == ["", "", "1"]


def test_settings_take_turns(monkeypatch, capsys):
    order = []

    def measured(options, setting, extra, folder):
        order.append((setting.arm, folder.name))
        return Measurement(1.0, 1.0)

    monkeypatch.setattr(throughput, "run", measured)
    arguments = "--env Catch --device cpu --parts all --rounds 2 --arms sum cosine"
    assert main([*arguments.split(), "--", "--teacher", "somewhere"]) == 0
    assert order == [("sum", "0-0"), ("cosine", "0-1"), ("sum", "1-0"), ("cosine", "1-1")]
    assert "# command: python benchmarks/throughput.py --env Catch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--env Catch -- --gate cosine", "--gate cosine has nothing to gate"),
        ("--env Catch -- --num-env 3", "--num-env is not an option"),
        ("--env Ctch", "--env Ctch"),
    ],
)
def test_what_a_run_would_refuse_is_refused_before_the_first_one(arguments, complaint, capsys):
    assert main(["--device", "cpu", "--arms", "main only", *arguments.split()]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--arms tanh", "'tanh' is unknown"),
        ("--rounds 0", "at least 1"),
        ("--steps 96 --warm-up 96", "above the 96"),
    ],
)
def test_a_mistake_is_refused(arguments, complaint, capsys):
    assert main(arguments.split()) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


@pytest.mark.seconds
def test_every_part_is_measured_in_a_process_of_its_own(tmp_path):
    output = tmp_path / "speed.csv"
    arguments = [*SMALL.split(), "--num-envs", "3", "--arms", "main only"]
    assert main([*arguments, "--output", str(output), "--", "--unroll-length", "4"]) == 0
    rows = table(output.read_text("utf-8").splitlines())
    assert [row["part"] for row in rows] == ["env", "act", "all"]
    for row in rows:
        assert float(row["steps_per_second"]) > 0
        assert float(row["peak_mebibytes"]) > 50
    # What is done besides playing leaves some of the time to playing.
    assert 0 < float(rows[2]["environment"]) + float(rows[2]["acting"]) < 1
