from dataclasses import replace
from pathlib import Path

import pytest

from configs.choice import Choice
from configs.cli import parse_resume
from configs.errors import UsageError
from configs.training import defaults
from experiments.training import run_folder as rundir


@pytest.fixture
def config(tmp_path, monkeypatch):
    """That of a run in the folder `mine`."""
    monkeypatch.chdir(tmp_path)
    config = defaults(Choice("Catch", "catch", "a2c", "mlp", ("distill",), "sum"))
    config = replace(config, run=replace(config.run, run_dir="mine", seed=5))
    rundir.create(config)
    return config


def resumed(line):
    return rundir.resumed(parse_resume(line.split()))


def complaint(line):
    with pytest.raises(UsageError) as refused:
        resumed(line)
    return str(refused.value)


def test_a_run_is_resumed_with_its_own_config_in_its_own_folder(config):
    found = resumed("--resume mine")
    assert found.config == config
    assert found.source == found.folder == Path("mine")


@pytest.mark.parametrize("flag", ["--resume=mine/", "--resume ./mine"])
def test_the_folder_may_be_spelt_otherwise(flag, config):
    found = resumed(flag)
    assert found.source == found.folder == Path("mine")


def test_steps_folder_and_what_shapes_no_number_may_differ(config):
    line = "--resume mine --steps 7 --device cpu --threads 1 --run-dir other"
    found = resumed(line)
    changed = replace(config.run, steps=7, device="cpu", threads=1)
    assert found.config == replace(config, run=changed)
    assert (found.source, found.folder) == (Path("mine"), Path("other"))
    assert resumed("--resume mine --run_dir=other").folder == Path("other")


def test_other_steps_are_told_to_change_the_schedules(config):
    assert config.run.steps == 200_000
    assert resumed("--resume mine --steps 50000").notes == (
        "The run ends at 50,000 steps instead of 200,000, and so do its schedules: the learning "
        "rate is no longer what it was planned to be.",
    )


@pytest.mark.parametrize("line", ["", "--steps 200000", "--device cpu --run-dir other"])
def test_where_the_schedules_stay_nothing_is_said(line, config):
    assert resumed(f"--resume mine {line}").notes == ()


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("--resume mine --steps 0", "--steps must be at least 1, not 0."),
        ("--resume mine --threads -1", "--threads must be 0 or more, not -1."),
        ("--resume mine --eval-episodes 3", "--eval-episodes has no effect without --eval-every"),
        ("--resume elsewhere", "elsewhere is not a run's folder: it has no config.json."),
        ("--resume mine/config.json", "mine/config.json/config.json cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(line, start, config):
    assert complaint(line).startswith(start)
