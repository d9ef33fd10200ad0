"""The command line of a run that goes on."""

import pytest

from configs.cli import ResumeOptions, is_resume, parse_resume
from configs.errors import UsageError


def test_a_line_with_resume_resumes():
    assert is_resume(["--resume", "x"])
    assert is_resume(["--steps", "5", "--resume=x"])
    assert not is_resume(["--resumed", "x"])
    assert not is_resume(["--env", "Catch"])


def test_a_resume_takes_a_run_and_practical_options_and_reads_no_file():
    assert parse_resume(["--resume=nowhere/"]) == ResumeOptions("nowhere/")
    line = "--resume nowhere --steps 7 --device cpu --run_dir other"
    changes = {"steps": 7, "device": "cpu"}
    assert parse_resume(line.split()) == ResumeOptions("nowhere", changes, "other")
    line = "--resume nowhere --threads 1 --track wandb mlflow --eval_every 1_000"
    changes = {"threads": 1, "track": ("wandb", "mlflow"), "eval_every": 1_000}
    assert parse_resume(line.split()) == ResumeOptions("nowhere", changes)


@pytest.mark.parametrize(
    "flag",
    [
        "--seed 2",
        "--env Catch",
        "--gate sum",
        "--learning-rate 1",
        "--aux distill",
        "--step 9",
        "x",
    ],
)
def test_a_resume_refuses_any_other_flag_and_names_those_it_takes(flag):
    with pytest.raises(UsageError) as refused:
        parse_resume(f"--resume mine {flag}".split())
    said = str(refused.value)
    assert said.startswith(f"{flag.split()[0]} cannot be given with --resume")
    for allowed in ("--steps", "--device", "--run-dir", "--threads", "--track"):
        assert allowed in said
    assert "--resume," not in said.partition("only")[2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--resume", "--resume: expected one argument."),
        ("--resume mine --steps x", "--steps: 'x' is not a whole number."),
        (
            "--resume mine --track foo",
            "--track foo is unknown: choose one of 'wandb', 'trackio', 'mlflow'.",
        ),
        ("--resume mine --steps 1e20", f"--steps must be at most {10**15:,}, not {10**20:,}."),
    ],
)
def test_a_resume_without_a_value_or_with_a_wrong_one_is_one_sentence(line, said):
    with pytest.raises(UsageError) as refused:
        parse_resume(line.split())
    assert str(refused.value) == said
