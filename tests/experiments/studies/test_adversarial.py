import csv

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.studies import adversarial as probe
from experiments.studies.adversarial import Options, main, read, record, run
from experiments.studies.harm import ALONE, Result

NAN = float("nan")
FLAGS = ["--threads", "1", "--device", "cpu", "--precision", "fp32", "--env.rows", "3"]


def test_a_run_is_its_mean_return_in_the_last_tenth(monkeypatch):
    lines = ["step,return,adversarial/cosine,adversarial/passed"]
    lines += ["50,-1.0,-0.5,0.0", "85,-0.8,,", "90,0.25,-1.0,0.5", "100,0.75,,"]
    monkeypatch.setattr(probe, "train_log", lambda _: list(csv.DictReader(lines)))
    found = run("cosine", 3, Options(steps=100), FLAGS)
    assert found == Result("cosine", 3, final=0.5, cosine=-0.75, passed=0.25)


def test_what_train_refuses_is_said():
    with pytest.raises(ValueError, match=r"nonsense, seed 1: train\.py: --gate nonsense is"):
        run("nonsense", 1, Options(steps=10), FLAGS)


def test_a_run_survives_its_line(tmp_path):
    held = [Result("sum", 1, 0.5, NAN, NAN), Result("cosine", 2, -0.25, -0.75, 0.125)]
    path = tmp_path / "runs.csv"
    lines = ["# a remark", "arm,seed,final,cosine,passed", *map(record, held)]
    path.write_text("\n".join(lines) + "\n")
    remarks, found = read(path)
    assert remarks == ["# a remark"]
    assert found[1] == held[1]
    assert (found[0].arm, found[0].final, np.isnan(found[0].cosine)) == ("sum", 0.5, True)


def test_everything_is_written_and_what_is_there_is_kept(tmp_path, capsys):
    flags = f"--steps 512 --seeds 1 2 --gates sum --output {tmp_path}/probed"
    assert main([*flags.split(), "--", *FLAGS]) == 0
    folder = tmp_path / "probed"
    before, runs = read(folder / "runs.csv")
    assert [(run.arm, run.seed) for run in runs] == [
        (ALONE, 1),
        ("sum", 1),
        (ALONE, 2),
        ("sum", 2),
    ]
    assert any(
        line.startswith("# command: python -m experiments.studies.adversarial") for line in before
    )
    # A gate more: only its runs are made.
    capsys.readouterr()
    more = flags.replace("--gates sum", "--gates sum cosine --keep")
    assert main([*more.split(), "--", *FLAGS]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if " s)" in line] == ["cosine"] * 2
    after, all_runs = read(folder / "runs.csv")
    assert [record(run) for run in all_runs[:4]] == [record(run) for run in runs]
    assert [(run.arm, run.seed) for run in all_runs[4:]] == [("cosine", 1), ("cosine", 2)]
    assert after[: len(before)] == before
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert {row["arm"] for row in rows} == {ALONE, "sum", "cosine"}
    assert imread(folder / "probe.png").shape[2] == 4
