"""How runs end that were ruined, held, moved away or killed: nothing lost, nothing silent."""

import json
import os
import shutil
import socket
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from agents.learning.learner import Learner
from agents.runtime.checkpoint import load_tensors
from experiments.training.build import Parts
from experiments.training.command import main
from experiments.training.endings import Dropped, ruin
from experiments.training.lock import FolderLock
from experiments.training.trainer import DIVERGED, DONE, MISTAKEN
from tests.experiments.training.two_trainers import UPDATES
from tests.side_by_side import run_two

LINE = (
    "--env Catch --env.rows 4 --num-envs 2 --unroll-length 6 --steps 60 --log-steps 12 --device "
    "cpu --precision fp32 --threads 1 --checkpoint-minutes 1e-9 --run-dir run"
)
FLAGS = tuple(LINE.split())
"""Five updates, a checkpoint after each."""
POLICY = Path("run/policy.safetensors")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the run `run`, which is done."""
    folder = tmp_path_factory.mktemp("made")
    os.chdir(folder)
    assert main(FLAGS) == DONE
    return folder / "run"


@pytest.fixture
def run(made):
    return Path(shutil.copytree(made, "run"))


def after(updates, act):
    """A learner that does something to itself after so many updates."""

    class Acting(Learner):
        def update(self, trajectory):
            metrics = super().update(trajectory)
            if self.updates == updates:
                act(self)
            return metrics

    return Parts(learner=Acting)


def spoil(learner):
    with torch.no_grad():
        learner.agent.policy.bias[0] = torch.inf


def everything(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_weights_that_are_not_finite_are_not_saved_and_end_the_run(capsys):
    assert main(FLAGS, after(3, spoil)) == DIVERGED
    said = capsys.readouterr().err
    assert said.startswith(
        "train.py: the weights policy.bias are NaN or infinite, so they were not"
    )
    weights, card = load_tensors(POLICY)
    assert card["steps"] == 24
    assert all(weight.isfinite().all() for weight in weights.values())
    assert max(Path("run/checkpoints").iterdir()).name == "step-000000000024.safetensors"


def two_processes(*arguments):
    """Exit code and stderr of each of two processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return run_two(
        "tests.experiments.training.two_trainers",
        lambda rank: arguments,
        lambda rank: {**told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
    )


@pytest.mark.seconds
@pytest.mark.parametrize(("whose", "after"), [("leader", 3), ("both", 3), ("leader", UPDATES)])
def test_weights_that_are_not_finite_end_all_processes_alike(whose, after, tmp_path):
    # Only the leading process saves, so it alone finds out; a process that the others left without
    # a word would wait for them in its next update, or call the run a success.
    codes, (said, other) = two_processes("weights", whose, str(after), str(tmp_path / "run"))
    assert codes == [DIVERGED, DIVERGED], said + other
    assert said.startswith("train.py: the weights policy.bias are NaN or infinite, so they were")
    assert "Traceback" not in other
    last = max((tmp_path / "run" / "checkpoints").iterdir())
    assert last.name == f"step-{24 * (after - 1):012}.safetensors"


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("trouble", "after", "code", "sentence"),
    [
        ("no room for the log", 0, MISTAKEN, "--run-dir {run} cannot be written (File too large)"),
        ("no room for the log", 3, MISTAKEN, "writing failed (File too large): free some space"),
        ("no room for a checkpoint", 0, MISTAKEN, "writing failed (File too large): free some"),
        ("no room for a checkpoint", 3, MISTAKEN, "writing failed (File too large): free some"),
        ("no room for a checkpoint", UPDATES, MISTAKEN, "writing failed (File too large): free"),
        ("no folder", 3, DIVERGED, "{run} was removed, renamed or emptied while the run was wri"),
        ("no evaluations", 0, MISTAKEN, "--eval-every: the environments of the evaluations cann"),
    ],
)
def test_what_the_leader_cannot_write_ends_all_processes_alike(
    trouble, after, code, sentence, tmp_path
):
    # The other process writes nothing, so it cannot find out by itself.
    run = tmp_path / "run"
    codes, (said, other) = two_processes(trouble, "leader", str(after), str(run))
    assert codes == [code, code], said + other
    assert said.startswith(f"train.py: {sentence.format(run=run)}")
    assert said.count("\n") == 1
    assert other == ""
    if trouble == "no folder":
        assert "it is saved, as it was at step " in said
        assert (tmp_path / "run-rescued" / "policy.safetensors").is_file()


@pytest.mark.parametrize(("skipped", "last"), [(4, 0), (1, 1)])
def test_a_run_that_skipped_most_or_ended_in_skips_is_no_success(skipped, last, capsys):
    def pretend(learner):
        learner.skipped.fill_(skipped)
        learner.skipped_in_a_row.fill_(last)

    assert main(FLAGS, after(5, pretend)) == DIVERGED
    said = capsys.readouterr().err
    assert said.startswith(f"train.py: {skipped} of 5 updates were skipped, because the loss was")


def test_a_resumed_run_remembers_that_the_environment_was_at_fault(capsys):
    def pretend(learner):
        learner.skipped.fill_(9)
        learner.unsound.fill_(9)

    assert main([*FLAGS, "--steps", "36"], after(3, pretend)) == DIVERGED
    capsys.readouterr()
    assert main(["--resume", "run", "--steps", "120"]) == DIVERGED
    assert "because observations or rewards of the environment were" in capsys.readouterr().err


def test_the_weights_of_every_task_are_looked_at():
    learner = SimpleNamespace(
        check_finite=partial(Learner.check_finite, SimpleNamespace(tasks=[task_of(0), task_of(1)])),
        unsound=torch.zeros(()),
    )
    said = ruin(learner, Path("run"), 100)
    assert said.startswith("the weights policy.bias are NaN or infinite, so they were not saved")


def task_of(index):
    """A task with a sound agent, or one that is not."""
    weights = {"policy.bias": torch.tensor([1.0, torch.inf if index else 0.0])}
    return SimpleNamespace(agent=SimpleNamespace(state_dict=lambda: weights))


def test_a_few_skipped_updates_are_told_and_no_failure(capsys):
    assert main(FLAGS, after(3, lambda learner: learner.skipped.fill_(2))) == DONE
    assert (
        "2 of 5 updates were skipped, because the loss was not finite." in capsys.readouterr().out
    )


def test_a_head_that_was_dropped_in_every_line_of_the_log_is_named():
    dropped = Dropped()
    dropped.add({"spr/dropped": 1.0, "curl/dropped": 1.0, "entropy": 1.0})
    dropped.add({"spr/dropped": 1.0, "curl/dropped": 0.5, "entropy": 1.0})
    [note] = dropped.notes()
    assert note.startswith("The head spr was dropped in every update")


def test_a_temperature_that_overflows_is_named_at_the_end(capsys):
    cold = "--env Gridworld --env.num-worlds 2 --aux distill --aux.distill.temperature 1e-300"
    assert main([*FLAGS[4:], *cold.split()]) == DONE
    assert "The head distill was dropped in every update" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["removed", "renamed", "emptied", "replaced"])
def test_a_folder_that_vanishes_ends_the_run_which_is_saved_next_to_it(way, capsys):
    def vanish(learner):
        match way:
            case "removed":
                shutil.rmtree("run")
            case "renamed":
                Path("run").rename("elsewhere")
            case "emptied":
                for path in Path("run").iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            case "replaced":
                Path("run").rename("elsewhere")
                shutil.copytree("elsewhere", "run")

    assert main(FLAGS, after(3, vanish)) == DIVERGED
    said = capsys.readouterr().err
    assert said == (
        "train.py: run was removed, renamed or emptied while the run was writing there: it is "
        "saved, as it was at step 36, in run-rescued; go on by --resume run-rescued.\n"
    )
    assert load_tensors(Path("run-rescued/policy.safetensors"))[1]["steps"] == 36
    assert way == "replaced" or not Path("run/policy.safetensors").exists()
    assert main(["--resume", "run-rescued"]) == DONE


@pytest.mark.parametrize("line", [["--resume", "run"], ["--resume", "run", "--run-dir", "copy"]])
def test_a_run_that_trains_is_not_resumed_meanwhile(run, line, capsys):
    with FolderLock(run):
        before = everything(run)
        assert main([*line, "--steps", "120"]) == MISTAKEN
        assert everything(run) == before
    assert f"run is in use by process {os.getpid()} on " in capsys.readouterr().err
    assert not Path("copy").exists()


def killed_before_its_first_checkpoint(run):
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "metrics.csv").unlink()
    POLICY.unlink()
    (run / "checkpoints" / ".step-000000000000.safetensors.7.tmp").touch()
    (run / ".lock").touch()


@pytest.mark.parametrize("again", [["--resume", "run"], FLAGS])
def test_a_run_killed_before_its_first_checkpoint_starts_over_and_ends_the_same(run, again):
    policy, log = POLICY.read_bytes(), (run / "metrics.csv").read_text().splitlines()
    killed_before_its_first_checkpoint(run)
    assert main(again) == DONE
    assert POLICY.read_bytes() == policy
    steps = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    assert steps == [line.split(",")[0] for line in log]
    assert not list(run.rglob(".*"))


def test_a_run_killed_between_its_last_checkpoint_and_its_policy_gets_the_policy(run):
    policy = POLICY.read_bytes()
    for left in (None, b"cut"):
        POLICY.unlink()
        if left is not None:
            POLICY.write_bytes(left)
        assert main(["--resume", "run"]) == DONE
        assert POLICY.read_bytes() == policy
    assert main(["--resume", "run"]) == MISTAKEN


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", 2), ("learning_rate", 0.001), ("discount", 0.9), ("unroll_length", 3)],
)
def test_a_checkpoint_of_another_run_is_refused(run, option, value, capsys):
    config = json.loads((run / "config.json").read_text())
    usual, config["run"][option] = config["run"][option], value
    (run / "config.json").write_text(json.dumps(config))
    assert main(["--resume", "run", "--steps", "120"]) == MISTAKEN
    said = capsys.readouterr().err
    assert f"is another run's (run.{option} {usual} instead of {value} in config.json)" in said


def test_options_that_shape_no_number_may_be_edited(run):
    config = json.loads((run / "config.json").read_text())
    config["run"] |= {"log_steps": 24, "checkpoint_minutes": 1.0, "threads": 0, "max_skipped": 7}
    (run / "config.json").write_text(json.dumps(config))
    assert main(["--resume", "run", "--steps", "84"]) == DONE


def test_a_folder_named_like_a_checkpoint_is_passed_over(run, capsys):
    (run / "checkpoints" / "step-000000000072.safetensors").mkdir()
    assert main(["--resume", "run", "--steps", "66"]) == MISTAKEN
    said = capsys.readouterr().err
    assert "step-000000000072.safetensors cannot be written (it is a folder): move run" in said
    assert main(["--resume", "run", "--steps", "61", "--run-dir", "copy"]) == MISTAKEN
    Path("run/checkpoints/step-000000000072.safetensors").rename(
        "run/checkpoints/step-x.safetensors"
    )
    assert main(["--resume", "run", "--steps", "66"]) == DONE
    assert "step-x.safetensors is damaged (is not a file)" in capsys.readouterr().out
