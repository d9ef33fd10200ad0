"""The command as a user meets it: whole runs on Catch, their ends, and every mistake."""

import csv
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

import agents.algorithms.a2c
from agents.learning.learner import Learner
from agents.runtime.checkpoint import load_tensors, save_tensors
from experiments.training.build import Parts
from experiments.training.command import main
from experiments.training.trainer import DIVERGED, DONE, MISTAKEN, STOPPED

ROOT = Path(__file__).resolve().parent.parent
CLOCKED = {"seconds", "sps", "environment", "acting", "learning"}
"""The columns of the log that tell of time."""

# Ten updates of 12 steps, each with its line in the log and its checkpoint.
UPDATE, UPDATES = 12, 10
SHORT = (
    "--env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --steps 120 --device cpu --threads 1 "
    "--precision fp32 --log-steps 1 --checkpoint-minutes 1e-9"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run of Catch, `run`, that reached its end."""
    folder = tmp_path_factory.mktemp("made")
    assert main(f"{SHORT} --run-dir {folder}/run".split()) == DONE
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the finished run, to damage."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def policy(run):
    """What the exported policy says of itself, and its weights, exactly."""
    weights, card = load_tensors(Path(run) / "policy.safetensors")
    return card, {name: weight.numpy().tobytes() for name, weight in weights.items()}


def checkpoints(run):
    return sorted((Path(run) / "checkpoints").iterdir())


def table(run):
    """The lines of the log, but for the columns that tell of time."""
    with (Path(run) / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) > CLOCKED
    return [{name: cell for name, cell in row.items() if name not in CLOCKED} for row in rows]


def pictures_at(run):
    """The steps at which the cosines were drawn."""
    events = EventAccumulator(str(run), {IMAGES: 0}).Reload()
    return [event.step for event in events.Images("2_cosine/all")]


def everything():
    return sorted(str(path) for path in Path.cwd().rglob("*"))


def stop_at(monkeypatch, update, number):
    """Sends this process a signal in the midst of an update."""
    before = Learner.update

    def interrupted(self, trajectory):
        if self.updates == update:
            signal.raise_signal(number)
        return before(self, trajectory)

    monkeypatch.setattr(Learner, "update", interrupted)


@contextmanager
def full_disk(room):
    """No file grows beyond `room` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- a run and its end ------------------------------------------------------------------


def test_a_run_leaves_what_the_documents_promise(run):
    assert {re.sub(r"(tfevents)\..*", r"\1", path.name) for path in run.iterdir()} == {
        "config.json",
        "versions.json",
        "events.out.tfevents",
        "metrics.csv",
        "checkpoints",
        "policy.safetensors",
    }
    # The latest three of ten.
    assert [path.stem for path in checkpoints(run)] == [
        f"step-{UPDATE * update:012d}" for update in (8, 9, 10)
    ]
    assert [int(row["step"]) for row in table(run)] == [
        UPDATE * update for update in range(1, UPDATES + 1)
    ]


def test_pictures_come_now_and_then_and_not_twice_after_a_resume(tmp_path):
    heads = "--aux termination multi_horizon --picture-steps 48"
    assert main(f"{SHORT} {heads} --run-dir run".split()) == DONE
    # Every update has its line of the log; the first ones beyond 48 and 96 have a picture.
    assert pictures_at("run") == [48, 96]
    assert main(["--resume", "run", "--steps", "200", "--run-dir", "more"]) == DONE
    assert pictures_at("more") == [48, 96, 144, 192]


def test_a_run_says_where_it_computes_where_it_writes_and_what_comes_next(capsys):
    assert main(f"{SHORT} --run-dir mine".split()) == DONE
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "Computing on cpu (as asked) in fp32 (as asked), 1 CPU thread (as asked)."
    assert lines[1] == "Writing to mine"
    assert lines[-2:] == [
        "Done: 120 steps. Score the policy with:",
        "  python evaluate.py mine",
    ]
    assert said.err == ""


def test_a_gymnasium_run_says_which_torso_it_took(capsys):
    line = "--env FrozenLake-v1 --algo a2c --steps 40 --num-envs 2 --unroll-length 4 --device cpu"
    assert main(f"{line} --run-dir lake --env.kwargs map_name=8x8".split()) == DONE
    assert "The torso is mlp, for observations of 64." in capsys.readouterr().out.splitlines()[0]


def test_a_run_says_at_its_end_how_much_of_each_head_was_let_in(capsys):
    for place in ("parameters", "features"):
        heads = f"--aux termination inverse --gate cosine --gate.at {place}"
        assert main(f"{SHORT} {heads} --run-dir {place}".split()) == DONE
        *_, one, other, _, _ = capsys.readouterr().out.splitlines()
        for line, name in ((one, "termination"), (other, "inverse")):
            pattern = r": \d+ % of its gradient passed, it agreed in \d+ % of the judgements\."
            assert re.fullmatch(name + pattern, line)


def test_the_same_seed_twice_is_the_same_run_and_another_seed_another(made):
    for name, seed in (("again", 1), ("other", 2)):
        assert main(f"{SHORT} --run-dir {name} --seed {seed}".split()) == DONE
    assert policy("again") == policy(made / "run")
    assert table("again") == table(made / "run")
    assert policy("other") != policy(made / "run")


@pytest.mark.parametrize("gate", ["sum", "cosine", "projection --gate.projection.decay 0.9"])
def test_the_same_seed_twice_is_the_same_run_with_a_gated_teacher(gate, made):
    line = f"{SHORT} --aux distill --teacher {made / 'run'} --gate {gate} --run-dir"
    assert main([*line.split(), "one"]) == main([*line.split(), "two"]) == DONE
    assert policy("one") == policy("two")
    assert policy("one") != policy(made / "run")
    assert table("one") == table("two")


# --- stopping and going on --------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize(
    "aux",
    [
        "",
        "--aux distill --gate projection --gate.projection.decay 0.9",
        "--aux distill --gate attittud --gate.attittud.refresh 2 --gate.metric optimizer",
    ],
    ids=["main", "aux", "samples"],
)
def test_a_run_that_was_stopped_goes_on_exactly(number, aux, made, monkeypatch, capsys):
    line = SHORT + (f" {aux} --teacher {made / 'run'}" if aux else "")
    assert main([*line.split(), "--run-dir", "whole"]) == DONE
    with monkeypatch.context() as context:
        stop_at(context, 4, number)
        assert main([*line.split(), "--run-dir", "mine"]) == STOPPED == 130
    # The update under way was finished and saved.
    assert checkpoints("mine")[-1].stem == f"step-{5 * UPDATE:012d}"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "Stopped at step 60. Go on with:",
        "  python train.py --resume mine",
    ]
    assert main(lines[-1].split()[2:]) == DONE
    assert "Resumed at step 60, exactly." in capsys.readouterr().out
    assert policy("mine") == policy("whole")
    assert table("mine") == table("whole")


def test_a_resumed_log_has_no_point_twice(made, tmp_path):
    run = shutil.copytree(made / "run", "mine")
    for newest in checkpoints(run)[1:]:
        newest.unlink()
    assert main(["--resume", "mine"]) == DONE
    assert table(run) == table(made / "run")
    assert policy(run) == policy(made / "run")


def test_a_run_goes_on_in_a_copy_with_more_steps(run, made):
    assert main(f"--resume {run} --run-dir longer --steps 240".split()) == DONE
    assert [int(row["step"]) for row in table("longer")] == [
        UPDATE * update for update in range(1, 2 * UPDATES + 1)
    ]
    assert policy(run) == policy(made / "run")  # untouched
    assert table("longer")[:UPDATES] == table(run)


def test_a_run_that_is_done_asks_for_more_steps(run, capsys):
    assert main(["--resume", str(run)]) == MISTAKEN
    assert capsys.readouterr().err == (
        f"train.py: --resume {run}: the run has done its 120 steps; give it more with --steps.\n"
    )


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(run, made, capsys):
    damage(checkpoints(run)[-1])
    assert main(["--resume", str(run)]) == DONE
    said = capsys.readouterr().out
    assert re.search(
        r"^step-000000000120\.safetensors is damaged \(.+\): continuing from step 108 instead\.$",
        said,
        re.MULTILINE,
    )
    assert policy(run) == policy(made / "run")


def test_where_all_checkpoints_are_damaged_a_run_cannot_go_on(run, capsys):
    for path in checkpoints(run):
        damage(path)
    before = policy(run), table(run)
    assert main(["--resume", str(run)]) == MISTAKEN
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.count("is damaged") == 3
    assert said.endswith("; start a new run.\n")
    assert (policy(run), table(run)) == before


@pytest.mark.parametrize("stranger", ["other widths", "a policy", "text", "nothing"])
def test_a_foreign_checkpoint_is_refused(stranger, run, capsys):
    for path in checkpoints(run):
        path.unlink()
    target = run / "checkpoints" / "step-000000000060.safetensors"
    if stranger == "other widths":
        assert main(f"{SHORT} --torso.mlp.widths 7 --run-dir other".split()) == DONE
        shutil.copy(checkpoints("other")[0], target)
    elif stranger == "a policy":
        shutil.copy(run / "policy.safetensors", target)
    elif stranger == "text":
        target.write_text("not a checkpoint")
    capsys.readouterr()
    assert main(["--resume", str(run)]) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith(f"train.py: --resume {run}: ")
    assert said.endswith("start a new run.\n")
    assert said.count("\n") == 1


# A few seconds, in which a first checkpoint comes early.
LONG = (
    "--env Catch --env.rows 4 --steps 20000 --num-envs 32 --unroll-length 8 --device cpu "
    "--threads 1 --precision fp32 --log-steps 1 --checkpoint-minutes 0.002"
)


def in_a_process(line):
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_a_checkpoint(run, process):
    while not list(Path(run).glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.seconds
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_process_that_was_stopped_from_outside_goes_on_exactly(number):
    process = in_a_process(f"{LONG} --run-dir mine")
    wait_for_a_checkpoint("mine", process)
    process.send_signal(number)
    out, err = process.communicate()
    assert err == ""
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert out.endswith("  python train.py --resume mine\n")
    else:
        assert process.returncode == -9
    assert main(["--resume", "mine"]) == DONE
    assert main(f"{LONG} --run-dir whole".split()) == DONE
    assert policy("mine") == policy("whole")
    assert table("mine") == table("whole")


# --- a loss that is not finite ----------------------------------------------------------


@pytest.fixture
def poison(monkeypatch):
    """Makes the main loss NaN from the given update on, for so many updates."""

    def poison(first, count=10**9):
        entropy, calls = agents.algorithms.a2c.entropy, []

        def poisoned(logits):
            calls.append(None)
            bad = first < len(calls) <= first + count
            return entropy(logits) * (torch.nan if bad else 1.0)

        monkeypatch.setattr(agents.algorithms.a2c, "entropy", poisoned)

    return poison


def test_a_loss_that_stays_infinite_stops_the_run_with_a_sentence(poison, capsys):
    poison(3)
    assert main(f"{SHORT} --run-dir mine --max-skipped 4".split()) == DIVERGED == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "train.py: the last 4 updates were skipped, because the loss was not fin"
    )
    assert said.endswith("are saved in mine. Try a smaller --learning-rate.\n")
    assert said.count("\n") == 1
    assert [row["skipped"] for row in table("mine")] == ["0", "0", "0", "1", "2", "3", "4"]


def test_the_weights_saved_are_those_before_the_loss_was_infinite(poison, monkeypatch):
    with monkeypatch.context() as context:
        stop_at(context, 2, signal.SIGTERM)  # during the third update, which is finished
        assert main(f"{SHORT} --run-dir before".split()) == STOPPED
    poison(3)
    assert main(f"{SHORT} --run-dir after --max-skipped 4".split()) == DIVERGED
    (before, weights_before), (after, weights_after) = policy("before"), policy("after")
    assert (before["steps"], after["steps"]) == (3 * UPDATE, 7 * UPDATE)
    assert weights_before == weights_after


def test_a_loss_that_is_infinite_once_costs_one_update(poison):
    poison(3, count=1)
    assert main(f"{SHORT} --run-dir mine --max-skipped 2".split()) == DONE
    assert [row["skipped"] for row in table("mine")] == ["0"] * 3 + ["1"] * 7


# --- mistakes ---------------------------------------------------------------------------


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
        ("--resume nowhere --seed 3", "--seed", "--steps, --device and --run-dir"),
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
