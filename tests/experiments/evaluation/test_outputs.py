import os
from pathlib import Path

import pytest

from configs.errors import UsageError
from configs.programs import EvaluateOptions
from experiments.evaluation.players import check_writable, destination


def test_the_scores_of_a_run_go_into_its_folder_and_those_of_a_shipped_teacher_nowhere(tmp_path):
    run, teacher = tmp_path / "run", tmp_path / "teacher"
    for folder in (run, teacher):
        folder.mkdir()
        (folder / "policy.safetensors").touch()
    (run / "config.json").touch()
    options = EvaluateOptions((str(run),))
    assert destination(str(run), options) == run / "evaluation.json"
    assert destination(str(teacher), options) is None
    # The file itself is not its run's folder.
    assert destination(str(run / "policy.safetensors"), options) is None
    for file, label in (
        ("policy-Pong.safetensors", "Pong"),
        ("best-Pong.safetensors", "best-Pong"),
    ):
        assert destination(str(run / file), options) == run / f"evaluation-{label}.json"


def test_the_output_is_where_all_scores_go(tmp_path):
    (tmp_path / "config.json").touch()
    options = EvaluateOptions((str(tmp_path),), output="x.json")
    assert destination(str(tmp_path), options) == Path("x.json")


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "there").write_text("kept")
    check_writable(tmp_path / "there", "--output")
    check_writable(tmp_path / "new", "--output")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


def test_a_file_that_cannot_be_written_is_refused_with_the_option_that_chooses_another(tmp_path):
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "no" / "x", "No such file"), (tmp_path / "file" / "x", "Not a")):
        with pytest.raises(UsageError) as refused:
            check_writable(path, "--video FILE")
        assert str(refused.value).startswith(f"{path} cannot be written ({why}")
        assert str(refused.value).endswith(": choose another file by --video FILE.")
    with pytest.raises(UsageError, match="is a folder: choose a file by --output"):
        check_writable(tmp_path, "--output")


def test_scores_may_go_to_a_device_but_into_no_pipe(tmp_path):
    before = sorted(Path("/dev").iterdir())
    check_writable(Path("/dev/null"), "--output FILE")
    assert sorted(Path("/dev").iterdir()) == before
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"pipe cannot be written \(it is a pipe, a socket or"):
        check_writable(tmp_path / "pipe", "--output FILE")
