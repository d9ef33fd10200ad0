"""Mistakes of a user, and a disk that is full: one sentence each, and nothing is lost."""

from pathlib import Path

import pytest
import torch

from agents.runtime.checkpoint import save_tensors
from experiments.training.build import Parts
from experiments.training.command import main
from experiments.training.trainer import DONE, MISTAKEN, STOPPED
from tests import short_runs
from tests.full_disk import full_disk
from tests.short_runs import SHORT, checkpoints, policy, table

made, run, _elsewhere = short_runs.made, short_runs.run, short_runs.elsewhere


def everything():
    return sorted(str(path) for path in Path.cwd().rglob("*"))


def refused(line, capsys):
    """The one sentence of a command that is refused, and leaves nothing behind."""
    before = everything()
    assert main(line.split()) == MISTAKEN == 2
    assert everything() == before
    said = capsys.readouterr().err
    assert said.startswith("train.py: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said.removeprefix("train.py: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("line", "flag", "cure"),
    [
        ("--env Breakot", "--env", "Breakout"),
        ("--env Catch --aux distil", "--aux", "choose distill"),
        ("--env Catch --aux distill --gate cosin", "--gate", "choose cosine"),
        ("--env Catch --torso big", "--torso", "nature"),
        ("--env Catch --algo dqn", "--algo", "a2c"),
        ("--env Catch --steps 0", "--steps", "at least 1"),
        ("--env Catch --steps -7", "--steps", "at least 1"),
        ("--env Catch --num-envs 0", "--num-envs", "at least 1"),
        ("--env Catch --unroll-length -1", "--unroll-length", "at least 1"),
        ("--env Catch --seed -1", "--seed", "0 or more"),
        ("--env Catch --env.rows 0", "--env.rows", "at least 2"),
        ("--env Catch --torso.mlp.widths 0", "--torso.mlp.widths", "positive"),
        ("--env Catch --device cuda:99", "--device", "use cpu"),
        ("--env Catch --device toaster", "--device", "use cpu"),
        ("--env Catch --aux distill", "--teacher", "python train.py --env Catch --run-dir"),
        ("--env Catch --aux distill --teacher nowhere", "--teacher", "give a run or an exported"),
        ("--env Catch --torso nature", "--torso", "use --torso mlp"),
        ("--env Pendulum-v1", "Pendulum-v1", "only a finite set"),
        ("--resume nowhere", "nowhere", "not a run's folder"),
        ("--resume nowhere --seed 3", "--seed", "only these can: --steps, --device"),
        ("--resume", "--resume", "expected one argument"),
    ],
)
def test_a_mistake_is_one_sentence_with_flag_and_cure_and_leaves_nothing(line, flag, cure, capsys):
    said = refused(line, capsys)
    assert flag in said
    assert cure in said


def test_a_teacher_that_is_damaged_or_foreign_is_refused(made, tmp_path, capsys):
    teacher = tmp_path / "teacher.safetensors"
    for content in (b"text", b"", (made / "run" / "policy.safetensors").read_bytes()[:-9]):
        teacher.write_bytes(content)
        said = refused(f"--env Catch --aux distill --teacher {teacher}", capsys)
        assert "is damaged or foreign" in said
    save_tensors(teacher, {"weight": torch.zeros(2)}, {"format": "of somebody else"})
    said = refused(f"--env Catch --aux distill --teacher {teacher}", capsys)
    assert "is damaged or foreign" in said


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("CartPole-v1", "the action set Catch:left-stay-right"),
        ("Catch", "sees torch.float32 (4, 5)"),
    ],
)
def test_a_teacher_of_another_game_or_another_view_is_refused(env, why, made, capsys):
    said = refused(f"--env {env} --aux distill --teacher {made / 'run'}", capsys)
    assert said.startswith("--teacher ")
    assert why in said


def test_without_emulators_a_game_is_refused_with_the_cure(monkeypatch, capsys):
    monkeypatch.setattr("envs.atari.games.find_spec", lambda name: None)
    assert "pip install 'auxgate[atari]'" in refused("--env Pong", capsys)


def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    said = refused(f"{SHORT} --run-dir file/run", capsys)
    assert said == "--run-dir file/run cannot be written (Not a directory): choose another folder."


def test_the_directory_of_another_run_is_refused(run, capsys):
    before = policy(run), table(run)
    assert "--resume" in refused(f"{SHORT} --run-dir {run}", capsys)
    assert (policy(run), table(run)) == before


def test_a_disk_that_is_full_at_the_start_leaves_nothing(capsys):
    with full_disk(10):
        said = refused(f"{SHORT} --run-dir mine", capsys)
    assert said.startswith("--run-dir mine cannot be written (")


def test_a_disk_that_fills_up_later_stops_the_run_with_a_sentence(capsys):
    # Room for what a run is told and logs, not for its checkpoints.
    with full_disk(20_000):
        assert main(f"{SHORT} --run-dir mine".split()) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith("train.py: writing failed (File too large): free some space")
    assert said.count("\n") == 1
    assert not [path for path in everything() if path.endswith(".tmp")]
    assert checkpoints("mine") == []


def test_a_disk_that_fills_up_after_a_checkpoint_leaves_it_to_go_on_from(made, capsys):
    size = checkpoints(made / "run")[0].stat().st_size
    assert main(f"{SHORT} --run-dir mine --steps 24".split()) == DONE
    saved = checkpoints("mine")
    with full_disk(size - 1000):
        assert main(["--resume", "mine", "--steps", "120"]) == MISTAKEN
    assert "writing failed" in capsys.readouterr().err
    assert checkpoints("mine") == saved
    assert main(["--resume", "mine"]) == DONE
    assert not [path for path in everything() if path.endswith(".tmp")]


def test_an_interrupt_before_training_begins_is_no_traceback(capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    assert main(f"{SHORT} --run-dir mine".split(), Parts(learner=interrupt)) == STOPPED
    assert capsys.readouterr().err == ""
    assert everything() == []
