import pytest

from configs.errors import UsageError
from experiments.running import folder as folders
from experiments.running.worker import TrainingJob
from experiments.training.trainer import DIVERGED, DONE


def test_a_study_is_read_back_as_it_was_saved(study):
    made = study()
    made.save()
    assert folders.load(made.folder) == made
    assert folders.load(made.folder).runs() == made.runs()


def test_what_is_added_keeps_the_names_that_are_there(study):
    first = study()
    before = [run.name for run in first.runs()]
    more = first.extended({"seed": ("1", "2", "3"), "discount": ("0.9",)})
    names = [run.name for run in more.runs()]
    assert names[:4] == before
    # 2 arms x 3 seeds of another discount, which their names say.
    assert len(names) == 4 + 6
    assert all("discount=0.9" in name for name in names[4:])


def test_nothing_is_added_twice(study):
    first = study()
    assert first.extended({}) == first
    more = first.extended({"seed": ("1", "2", "3")})
    assert more.extended({"seed": ("1", "2", "3")}) == more
    assert len(more.runs()) == 6


@pytest.mark.parametrize(
    ("checkpoints", "policy", "done", "goes_on", "kept"),
    [
        ((), None, False, False, None),
        ((0, 64), 64, False, True, 64),
        # The last update may overshoot.
        ((64, 128), 128, True, None, 128),
        # Killed between the last checkpoint and the policy.
        ((64, 128), 64, False, True, 64),
        ((128,), None, False, False, None),
    ],
)
def test_a_run_is_done_with_its_last_policy_and_else_goes_on(
    checkpoints, policy, done, goes_on, kept, trained, tmp_path
):
    folder = trained(tmp_path / "run", checkpoints, policy)
    assert folders.is_done(folder, 100) == done
    if not done:
        assert folders.mend(folder, 100) == goes_on
    assert folders.last_step(folder) == kept
    assert folder.exists() == (kept is not None)


def test_a_run_that_made_its_steps_in_vain_is_not_done_and_is_tried_again(
    trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # as the task does, but only for this test
    task, codes = TrainingJob(str(tmp_path), str(tmp_path), "run", (), 100), [DIVERGED, DONE]
    task.log.parent.mkdir()

    def trains(words):
        trained(task.folder, (128,), 128)
        return codes.pop(0)

    monkeypatch.setattr("experiments.training.command.main", trains)
    task.run()
    assert not folders.is_done(task.folder, 100)
    task.run()
    assert folders.is_done(task.folder, 100)
    assert codes == []


def test_another_study_is_not_written_over(study, tmp_path):
    made = study()
    assert not folders.check_free(made.folder, made.grids[0].axes)
    made.save()
    assert folders.check_free(made.folder, made.grids[0].axes)
    with pytest.raises(UsageError, match="holds another study"):
        folders.check_free(made.folder, {"env": ("Catch",)})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        folders.check_free(tmp_path / "full", {})


def test_a_folder_in_which_a_study_was_killed_before_it_began_is_free(tmp_path):
    (tmp_path / folders.LOGS).mkdir()
    for name in (".lock", ".lock.json", ".workers.lock", ".study.json.123.tmp"):
        (tmp_path / name).touch()
    assert not folders.check_free(tmp_path, {})
    with folders.locked(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".workers.lock", folders.LOGS]
    (tmp_path / folders.LOGS / "Catch-main-s1.log").touch()
    with pytest.raises(UsageError, match="is not empty"):
        folders.check_free(tmp_path, {})


def test_two_programs_do_not_work_in_one_folder(study):
    made = study()
    made.save()
    with (
        folders.locked(made.folder),
        pytest.raises(
            UsageError, match=r"is in use by process \d+ on .*: wait until it has ended, or stop it"
        ),
        folders.locked(made.folder),
    ):
        pass
    with folders.locked(made.folder):
        pass


def test_a_study_waits_for_the_runs_of_one_that_was_killed(study, monkeypatch):
    made = study()
    made.save()
    monkeypatch.setattr(folders, "PATIENCE", 0.05)
    with (
        folders.working(made.folder),
        pytest.raises(UsageError, match="still go on"),
        folders.locked(made.folder),
    ):
        pass


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "auxgate study 0"}'])
def test_a_damaged_study_is_one_sentence(content, study):
    made = study()
    with pytest.raises(UsageError, match="is not a study's folder"):
        folders.load(made.folder)
    made.save()
    (made.folder / folders.STUDY).write_text(content)
    with pytest.raises(UsageError, match="cannot be read"):
        folders.load(made.folder)
