import json
import os
import re
import signal
from dataclasses import replace

import pytest

from configs.choice import Choice
from configs.cli import ResumeOptions, parse
from configs.errors import UsageError
from configs.training import TrainConfig, defaults
from experiments.training import run_folder as rundir
from tests.full_disk import full_disk

CHOICE = Choice("Catch", "catch", "a2c", "mlp", (), None)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parsed(line):
    return parse(line.split())


def config_of(choice=CHOICE, **options):
    config = defaults(choice)
    return replace(config, run=replace(config.run, **options))


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_folder_holds_the_config_the_versions_and_room_for_checkpoints(tmp_path):
    folder = rundir.create(config_of(run_dir="a/b"))
    assert everything(tmp_path) == [
        "a",
        "a/b",
        "a/b/checkpoints",
        "a/b/config.json",
        "a/b/versions.json",
    ]
    assert rundir.read_config(folder) == config_of(run_dir="a/b")


def test_the_default_name_says_what_the_run_is():
    config = parsed("--env Catch --aux distill --gate projection --seed 7")
    assert re.fullmatch(r"Catch-distill-projection-s7-\d{8}-\d{6}", rundir.default_name(config))
    assert re.fullmatch(r"Catch-main-s1-\d{8}-\d{6}", rundir.default_name(config_of()))


def test_the_default_name_is_safe_whatever_the_environment_is_called():
    choice = replace(CHOICE, env="module:ALE/Pong v5\n$(x)")
    assert re.match(r"module_ALE_Pong_v5___x_-main-s1-", rundir.default_name(config_of(choice)))


def test_two_runs_that_start_together_get_a_folder_each(monkeypatch):
    monkeypatch.setattr(rundir, "default_name", lambda config: "same")
    folders = [str(rundir.create(config_of())) for _ in range(3)]
    assert folders == [os.path.join("runs", name) for name in ("same", "same-2", "same-3")]


def test_a_folder_that_another_run_has_only_just_made_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(rundir, "default_name", lambda config: "same")
    (tmp_path / "runs" / "same").mkdir(parents=True)  # and nothing in it yet
    assert rundir.create(config_of()).name == "same-2"


def test_the_folder_of_another_run_is_refused_with_the_cure(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (folder / "checkpoints" / "step-000000000000.safetensors").touch()
    before = (tmp_path / "mine" / "config.json").read_bytes()
    with pytest.raises(UsageError, match=r"--run-dir mine holds a run .* --resume mine\.$"):
        rundir.create(config_of(run_dir="mine", seed=2))
    assert (tmp_path / "mine" / "config.json").read_bytes() == before


FOREIGN = {
    "events.out.tfevents.1700000000.host.1.0": b"theirs",
    "metrics.csv": b"epoch,loss\n1,2\n",
    "versions.json": b"{}",
    "checkpoints/step-000000000010.safetensors": b"theirs",
    "checkpoints/model.pt": b"theirs",
    "notes.txt": b"theirs",
    ".policy.safetensors.12.tmp": b"theirs",
    "config.json": b'{"model": "theirs"}',
    "checkpoints": None,
}
"""What other programs may have in a folder; the last is an empty folder."""


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_holds_something_else_is_refused_and_stays_as_it_is(name, tmp_path):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.mkdir() if FOREIGN[name] is None else path.write_bytes(FOREIGN[name])
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=r"^--run-dir mine (is not empty|holds a run already)"):
        rundir.create(config_of(run_dir="mine"))
    assert everything(tmp_path) == before
    assert FOREIGN[name] is None or path.read_bytes() == FOREIGN[name]


def test_a_run_that_died_before_its_first_checkpoint_may_be_started_again(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    for name in (
        "events.out.tfevents.0000",
        ".policy.safetensors.12.tmp",
        "checkpoints/.step-000000000000.safetensors.12.tmp",
    ):
        (folder / name).write_bytes(b"cut")
    assert rundir.create(config_of(run_dir="mine", seed=2)) == folder
    assert everything(folder) == ["checkpoints", "config.json", "versions.json"]
    assert rundir.read_config(folder).run.seed == 2


def test_what_a_killed_run_left_half_written_is_removed_when_it_goes_on(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (folder / "checkpoints" / "step-000000000000.safetensors").touch()
    cut = ("policy.safetensors", "policy-Pong.safetensors", "metrics.csv")
    # With --eval-every.
    cut += ("best.safetensors", "best-Pong.safetensors", "evaluations.csv")
    for name in (*cut, "notes.csv"):
        (folder / f".{name}.12.tmp").touch()
    rundir.clear(folder)
    assert [path.name for path in folder.glob(".*")] == [".notes.csv.12.tmp"]


@pytest.mark.parametrize("left", [[".lock"], [".lock", "checkpoints/"], [".lock", "versions.json"]])
def test_a_run_that_died_while_its_folder_was_made_may_be_started_again(left, tmp_path):
    for name in left:
        path = tmp_path / "mine" / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    rundir.create(config_of(run_dir="mine"))


@pytest.mark.parametrize("kept", ["metrics.csv", "policy.safetensors", "evaluation.json"])
def test_a_run_without_checkpoints_but_with_results_is_not_started_again(kept, tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (folder / kept).write_bytes(b"kept")
    with pytest.raises(UsageError, match="--run-dir mine holds a run already"):
        rundir.create(config_of(run_dir="mine", seed=2))
    assert (folder / kept).read_bytes() == b"kept"


def test_a_folder_below_a_file_is_refused_and_the_file_survives(tmp_path):
    (tmp_path / "file").write_text("kept")
    for folder in ("file", "file/run", "file/a/b"):
        with pytest.raises(UsageError, match=f"--run-dir {folder} cannot be written"):
            rundir.create(config_of(run_dir=folder))
    assert everything(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    def late(*_):
        raise AssertionError("it waits for the pipe")

    os.mkfifo(tmp_path / "pipe")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        with pytest.raises(UsageError, match="--run-dir pipe cannot be written"):
            rundir.create(config_of(run_dir="pipe"))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "pipe").is_fifo()


def test_where_runs_is_a_file_the_default_folder_is_refused(tmp_path):
    (tmp_path / "runs").write_text("kept")
    with pytest.raises(UsageError, match=r"--run-dir runs/.* cannot be written"):
        rundir.create(config_of())


@pytest.mark.parametrize("run_dir", ["mine", ""])
def test_a_full_disk_leaves_no_folder(run_dir, tmp_path):
    with full_disk(10), pytest.raises(UsageError, match=r"--run-dir .* cannot be written \("):
        rundir.create(config_of(run_dir=run_dir))
    assert everything(tmp_path) in ([], ["runs"])


def test_versions_name_the_packages_and_the_machine(tmp_path):
    rundir.create(config_of(run_dir="mine"))
    versions = json.loads((tmp_path / "mine" / "versions.json").read_text())
    assert set(versions["packages"]) == set(rundir.PACKAGES)
    assert versions["packages"]["torch"]
    assert versions["cores"] == os.cpu_count()
    assert re.fullmatch(r"unknown|[0-9a-f]{40}", versions["commit"])


def test_versions_hold_no_environment_variable(monkeypatch, tmp_path):
    secrets = {f"SECRET_{number}": f"hunter{number:04}" for number in range(3)}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    rundir.create(config_of(run_dir="mine"))
    for file in ("versions.json", "config.json"):
        text = (tmp_path / "mine" / file).read_text()
        assert not any(word in text for word in (*secrets, *secrets.values(), os.environ["PATH"]))


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert rundir.versions()["commit"] == "unknown"
    assert rundir.versions()["dirty"] is False


def test_a_run_goes_on_in_its_own_folder_with_its_new_config():
    folder = rundir.create(config_of(run_dir="mine"))
    rundir.go_on(folder, folder, config_of(run_dir="mine", steps=7))
    assert rundir.read_config(folder).run.steps == 7


def test_a_run_goes_on_in_a_copy_and_the_first_stays_as_it_was(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (folder / "metrics.csv").write_text("step\n1\n")
    rundir.go_on(folder, tmp_path / "copy", config_of(steps=7))
    assert rundir.read_config(tmp_path / "copy").run.steps == 7
    assert (tmp_path / "copy" / "metrics.csv").read_text() == "step\n1\n"
    assert rundir.read_config(folder) == config_of(run_dir="mine")


def test_a_copy_over_something_else_is_refused(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match=r"--run-dir .*other exists already: choose another"):
        rundir.resumed(ResumeOptions(run=str(folder), run_dir=str(tmp_path / "other")))
    assert everything(tmp_path / "other") == []


def test_a_full_disk_leaves_no_half_copy(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    (folder / "metrics.csv").write_text("7" * 5000)
    before = everything(tmp_path)
    with full_disk(4000), pytest.raises(UsageError, match=r"--run-dir .*copy cannot be written"):
        rundir.go_on(folder, tmp_path / "copy", config_of())
    assert everything(tmp_path) == before


def test_a_full_disk_never_costs_a_run_that_is_there(tmp_path):
    folder = rundir.create(config_of(run_dir="mine"))
    before = everything(tmp_path)
    with full_disk(10), pytest.raises(UsageError, match="--run-dir mine cannot be written"):
        rundir.go_on(folder, folder, config_of(steps=7))
    assert everything(tmp_path) == before
    assert rundir.read_config(folder) == config_of(run_dir="mine")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a run's folder: it has no config.json."),
        (b"{", "config.json cannot be read"),
        (b"\xff\xfe", "config.json cannot be read"),
        (b"[]", "config.json does not fit this version"),
    ],
)
def test_a_folder_without_a_readable_config_is_refused(content, said, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(said)):
        rundir.read_config(tmp_path)


def test_a_config_with_a_nested_value_is_flat_in_dotted_names():
    content = {"a": 1, "b": {"c": 2, "d": {"e": (3, 4)}}, "f": {}}
    assert rundir.flat(content) == {"a": 1, "b.c": 2, "b.d.e": (3, 4)}


def test_the_config_written_is_the_config_read(tmp_path):
    config = parsed("--env Catch --aux distill --gate orthogonal --run-dir mine")
    rundir.create(config)
    content = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert TrainConfig.from_json(content) == config


def test_a_description_begins_with_environment_heads_gate_and_seed():
    given = parsed("--env Catch --aux inverse termination --gate cosine --seed 7")
    found = rundir.described(given)
    first = {"env": "Catch", "heads": "inverse termination", "gate": "cosine", "seed": 7}
    assert list(found.items())[:4] == list(first.items())
    assert found["run.num_envs"] == given.run.num_envs
    assert not {"run.seed", "choice.env", "choice.aux", "choice.gate"} & found.keys()
