"""Runs that were stopped, killed or damaged, and how they go on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.training.command import main
from experiments.training.trainer import DONE, MISTAKEN, STOPPED
from tests import short_runs
from tests.short_runs import SHORT, UPDATE, UPDATES, checkpoints, policy, stop_at, table

ROOT = Path(__file__).resolve().parent.parent
made, run, _elsewhere = short_runs.made, short_runs.run, short_runs.elsewhere


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
