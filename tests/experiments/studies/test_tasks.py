"""Tasks that share a network, compared with the same tasks alone."""

import csv
from pathlib import Path

import numpy as np
import pytest

from experiments.studies import tasks
from experiments.training import command as train
from experiments.training.trainer import DONE

PAIR = "Catch+Catch(mirrored=True)"
SMALL = "--unroll-length 4 --device cpu --precision fp32 --threads 1 --env.share 3 1 --steps 640"


def curve(arm, seed, level, role="main"):
    alone = arm == tasks.ALONE
    returns = np.full(tasks.POINTS, float(level))
    returns[0] = np.nan
    return tasks.Curve(
        "Catch" if alone else PAIR, "own", "Catch", tasks.ALONE if alone else role, arm, seed, 320,
        returns,
    )  # fmt: skip


def rows(lines):
    return list(csv.DictReader(lines))


def test_arms_are_compared_with_the_task_alone_seed_by_seed():
    alone = [curve(tasks.ALONE, seed, seed) for seed in (1, 2, 3)]
    harmed = [curve("sum", seed, seed - 2) for seed in (2, 3, 1)]
    lost, kept = [curve("sum", 1, 9, "other")], [curve("cosine", seed, seed) for seed in (1, 2)]
    found = {
        (row["arm"], row["role"], row["measure"]): row
        for row in rows(tasks.summary([*alone, *harmed, *lost, *kept]))
    }
    assert found["sum", "main", "mean"]["difference"] == "-2.0000"
    assert found["sum", "main", "mean"]["difference_high"] == "-2.0000"
    assert found["cosine", "main", "final"]["difference"] == "0.0000"
    assert found["cosine", "main", "final"]["runs"] == "2"
    assert found["alone", "main", "mean"]["value"] == "2.0000"
    assert found["alone", "main", "mean"]["difference"] == ""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, line in (("pair", f"--env {PAIR} --gate sum --num-envs 8"), ("one", "--env Catch")):
        words = f"{line} {SMALL if name == 'pair' else SMALL.replace('--env.share 3 1', '')}"
        assert train.main([*words.split(), "--run-dir", f"study/{name}"]) == DONE
    return Path("study")


def test_a_study_is_read_written_and_drawn_again_from_its_tables(study, capsys):
    assert tasks.main([str(study), "--output", "out"]) == 0
    read = rows([x for x in Path("out/runs.csv").read_text().splitlines() if x[0] != "#"])
    told = {(row["task"], row["role"], row["arm"], row["steps"]) for row in read}
    assert told == {
        ("Catch", "alone", "alone", "640"),
        ("Catch", "main", "sum", "480"),
        ("Catch(mirrored=True)", "other", "sum", "160"),
    }
    first = {name: Path("out", name).read_bytes() for name in (tasks.SUMMARY, tasks.PICTURE)}
    for name in first:
        Path("out", name).unlink()
    assert tasks.main(["--redraw", "--output", "out"]) == 0
    assert {name: Path("out", name).read_bytes() for name in first} == first
    capsys.readouterr()
    assert tasks.main(["--output", "out"]) == 2
    assert "either STUDY" in capsys.readouterr().err
    assert tasks.main(["--redraw", "--output", "nowhere"]) == 2
    assert "which is not there" in capsys.readouterr().err


def test_a_run_without_a_log_or_without_an_episode_is_refused_in_a_sentence(study, capsys):
    log = study / "one" / "metrics.csv"
    header, *lines = log.read_text().splitlines()
    column = header.split(",").index("return")
    cut = [
        ",".join("" if i == column else x for i, x in enumerate(line.split(","))) for line in lines
    ]
    log.write_text("\n".join([header, *cut]) + "\n")
    assert tasks.main([str(study), "--output", "out"]) == 2
    assert "no episode of Catch has ended" in capsys.readouterr().err
    log.unlink()
    assert tasks.main([str(study), "--output", "out"]) == 2
    assert "has logged nothing yet" in capsys.readouterr().err


def test_environments_that_cannot_be_divided_evenly_are_counted_as_the_run_divides_them(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = f"--env {PAIR} --gate sum --num-envs 5 --tasks.main Catch-2"
    words = f"{line} {SMALL.replace('--env.share 3 1', '')} --run-dir run".split()
    assert train.main(words) == DONE
    main, other = tasks.curves_of(Path("run"))
    # Of five, two play the task that is learnt first, which is the main one.
    assert (main.task, main.steps) == ("Catch(mirrored=True)", 256)
    assert (other.task, other.steps) == ("Catch", 384)
