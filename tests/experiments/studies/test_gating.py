import csv

import pytest

from experiments.studies import gating
from experiments.studies.gating import LOGGED, REFERENCE, arms, main, summary
from experiments.training import command as train
from experiments.training.trainer import DONE

CATCH = (
    "--env Catch --env.rows 4 --num-envs 4 --unroll-length 4 --steps 64 --device cpu --threads 1 "
    "--precision fp32 --log-steps 1"
)


@pytest.fixture
def started(monkeypatch):
    """Runs `train.py` in this process; the list of what it was called with."""
    calls = []

    def run_alone(command):
        calls.append(command[2:])
        assert train.main(command[2:]) == DONE

    monkeypatch.setattr(gating, "run_alone", run_alone)
    return calls


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "run"
    assert train.main(f"{CATCH} --run-dir {path}".split()) == DONE
    return path


def test_an_arm_differs_from_the_reference_in_what_its_name_says():
    found = arms(["every", "metric", "significant"])
    assert next(iter(found)) == REFERENCE
    assert found["every 4"] == ["--gate", "cosine", "--gate.every", "4"]
    assert found["metric optimizer"] == ["--gate", "cosine", "--gate.metric", "optimizer"]
    assert found["significant"] == ["--gate", "significant"]
    assert "main policy" not in found


def row(step, value, cosine="", sps=10, head="distill"):
    return {"step": str(step), "return": value, "sps": str(sps), f"{head}/cosine": cosine}


def test_a_summary_is_of_what_was_measured():
    # The last tenth of 100 steps begins at step 90: 4, 3 and 5; the last is 5.
    rows = [row(50, "1", "0.5"), row(90, "4"), row(95, "3", "0.25", sps=30), row(100, "5", sps=20)]
    last, late, cosine, *others, speed = summary(rows, ["distill"])
    assert (last, late, cosine, speed) == (5.0, 4.0, 0.375, 15.0)
    assert len(others) == len(LOGGED) - 1
    assert all(number != number for number in others)


def test_heads_are_averaged():
    rows = [row(10, "1", "0.5") | {"other/cosine": "-0.1"}]
    assert summary(rows, ["distill", "other"])[2] == pytest.approx(0.2)


def test_every_arm_is_trained_once_and_gone_on_with(started, teacher, tmp_path, capsys):
    line = f"--folder {tmp_path / 'runs'} --seeds 2 --output {tmp_path / 'table.csv'}"
    flags = f"{CATCH} --aux distill --teacher {teacher}"
    assert main(f"{line} --studies metric -- {flags}".split()) == 0
    text = (tmp_path / "table.csv").read_text()
    assert text.startswith("# command: python -m experiments.studies.gating --folder")
    rows = list(csv.DictReader(each for each in text.splitlines() if not each.startswith("#")))
    assert [(each["arm"], each["seed"]) for each in rows] == [
        ("cosine", "2"),
        ("metric optimizer", "2"),
    ]
    assert [each["sign_differs"] != "" for each in rows] == [False, True]
    assert all(-1 <= float(each["cosine"]) <= 1 for each in rows)
    assert all(float(each["steps_per_second"]) > 0 for each in rows)
    assert len(started) == 2

    # Called again it trains what is missing alone.
    assert main(f"{line} --studies metric main -- {flags}".split()) == 0
    assert len(started) == 3
    assert "policy" in started[-1]

    assert main(f"{line} --studies main -- {flags} --num-envs 8".split()) == 2
    assert "has another run in cosine-seed-2" in capsys.readouterr().err
    assert len(started) == 3


def test_a_run_that_was_cut_short_is_resumed(started, teacher, tmp_path):
    flags = f"{CATCH} --aux distill --teacher {teacher} --gate cosine".split()
    folder = tmp_path / "run"
    whole = gating.train(flags, folder)
    log = folder / "metrics.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    last = sorted((folder / "checkpoints").iterdir())[-1]
    last.unlink()
    rows = gating.train(flags, folder)
    assert started[-1] == ["--resume", str(folder)]
    assert rows[-1]["step"] == whole[-1]["step"] == "64"


def test_without_a_head_there_is_nothing_to_gate(tmp_path, capsys):
    assert main(f"--folder {tmp_path} -- {CATCH}".split()) == 2
    assert "must name a head" in capsys.readouterr().err
