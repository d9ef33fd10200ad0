import pytest
import torch

from agents.runtime.checkpoint import load_checkpoint
from agents.teachers import export_policy
from configs.cli import parse
from configs.errors import UsageError
from experiments.training import teachers
from experiments.training.build import build
from experiments.training.run_folder import CHECKPOINTS
from tests.experiments.sessions import (
    HARDWARE,
    SMALL,
    WORLDS,
    agent_of,
    alike,
    among,
    complaint,
    session_of,
)


def test_without_a_shipped_teacher_the_command_that_trains_one_is_given():
    said = complaint("--aux distill")
    assert said == (
        "--aux distill needs a teacher and none is shipped for Catch: train one with "
        "'python train.py --env Catch --run-dir runs/teacher-Catch' and give "
        "--teacher runs/teacher-Catch."
    )


def test_a_shipped_teacher_is_found_by_the_name_of_the_environment(teacher, monkeypatch):
    folder = teacher.parent / "shipped" / "Catch"
    folder.mkdir(parents=True)
    teacher.rename(folder / "policy.safetensors")
    monkeypatch.setattr(teachers, "SHIPPED_TEACHERS", folder.parent)
    assert list(session_of("--aux distill").learner.heads) == ["distill"]


def test_a_teacher_that_is_missing_damaged_or_foreign_is_refused(teacher, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.write_bytes(teacher.read_bytes()[:-10])
    for path in (tmp_path / "nowhere", damaged, tmp_path):
        said = complaint(f"--aux distill --teacher {path}")
        assert said.startswith("--teacher ")
        assert str(path) in said
        assert said.endswith("; give a run or an exported policy of Catch.")


def test_a_teacher_with_other_observations_is_refused(teacher):
    said = complaint(f"--env.rows 4 --aux distill --teacher {teacher}")
    assert "sees torch.float32 (10, 5), but Catch shows torch.float32 (4, 5)" in said


@pytest.mark.atari
@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        (
            "--protocol machado",
            "play by its protocol (--protocol machado), or train a teacher by yours ('python "
            "train.py --env Pong --protocol baselines --run-dir runs/teacher-Pong-baselines') and "
            "give --teacher runs/teacher-Pong-baselines.",
        ),
        (
            "--env.full-action-space",
            "give a run or an exported policy of Pong with the same actions.",
        ),
    ],
)
def test_a_teacher_of_more_actions_is_refused_with_the_cure(flags, cure, tmp_path):
    line = SMALL.replace("Catch", "Pong")
    config = parse(f"{line} {flags}".split())
    session = build(config, HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    session.env.close()
    config = parse(f"{line} --aux distill --teacher {tmp_path / 'teacher'}".split())
    with pytest.raises(UsageError) as refused:
        build(config, HARDWARE)
    said = str(refused.value)
    assert said.startswith(
        f"--teacher {tmp_path / 'teacher'}: the teacher at {tmp_path / 'teacher'} plays Pong ("
    )
    assert said.endswith(f"; {cure}")


def test_a_run_teaches_in_its_own_worlds_and_no_others(tmp_path):
    session = session_of("", WORLDS)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    line = f"--aux distill --teacher {tmp_path / 'teacher'}"
    session_of(line, WORLDS).update()
    said = complaint(f"{line} --env.layout empty", WORLDS)
    assert ": the teacher at " in said
    assert "learnt in 4 worlds from number 0 of seed 0+height=6+width=7, but " in said
    assert said.endswith("in the same worlds, or one of optimal, q-learning, redraw, swap, remove.")


def test_a_wrong_teacher_is_asked_for_by_its_flags(teacher):
    line = f"--aux distill --teacher {teacher}"
    wrong = session_of(f"{line} --aux.distill.mirror --aux.distill.random-answers 0.2")
    wrong.update()
    assert wrong.learner.heads["distill"].wrong.order.tolist() == [2, 1, 0]
    assert session_of(line).learner.heads["distill"].wrong is None
    world = session_of("--aux distill --aux.distill.mirror", WORLDS)
    assert world.learner.heads["distill"].wrong.order.tolist() == [0, 3, 2, 1]
    world.update()


def test_a_delayed_teacher_goes_on_exactly_in_a_resumed_run(tmp_path):
    line = "--aux distill --aux.distill.delay 5 --aux.distill.random-answers 0.5"
    whole = session_of(line, WORLDS)
    for _ in range(3):
        whole.update()
    whole.save(tmp_path)
    resumed = session_of(line, WORLDS)
    said = resumed.restore(load_checkpoint(tmp_path / CHECKPOINTS).state)
    assert said.endswith("exactly.")
    for _ in range(3):
        expected, found = whole.update(), resumed.update()
        assert torch.equal(found["distill/loss"], expected["distill/loss"])
    assert alike(agent_of(resumed), agent_of(whole))


def test_all_processes_hide_the_same_places_from_a_teacher(teacher):
    line = f"--aux distill --teacher {teacher} --aux.distill.mask 0.3"
    first, second = (among(rank, line).learner.heads["distill"].mask.hidden for rank in (0, 1))
    assert torch.equal(first, second)
    assert first.sum() == 15  # of 10 x 5 cells


def test_the_worlds_own_teachers_have_no_observations_to_hide():
    said = complaint("--aux distill --aux.distill.mask 0.3", WORLDS)
    assert said == (
        "--aux.distill.mask hides observations, but a teacher of Gridworld's own knows the "
        "world's state and needs none: give an exported policy as the --aux.distill.teacher, or "
        "use --aux.distill.delay or --aux.distill.random-answers."
    )
