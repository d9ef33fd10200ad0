import csv

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.studies import engine
from experiments.studies.engine import ALONE
from experiments.studies.heads import (
    POINTS,
    Options,
    Outcome,
    draw,
    main,
    name,
    read,
    run,
    study_in,
    summary,
    verdicts,
)

FLAGS = ["--threads", "1", "--device", "cpu", "--precision", "fp32", "--env.rows", "3"]
NAN = float("nan")


def test_a_run_is_its_late_return_its_mean_and_its_curve(monkeypatch):
    lines = ["step,return,inverse/cosine,inverse/passed"]
    lines += ["1,,,", "50,-1.0,-0.5,0.0", "90,0.25,-1.0,0.5", "100,0.75,,"]
    given = []
    monkeypatch.setattr(
        engine, "train_log", lambda x: given.append(x) or list(csv.DictReader(lines))
    )
    found = run("inverse", "cosine", 3, Options(env="Catch", steps=100), FLAGS)
    assert (found.final, found.whole) == (0.5, 0.0)
    assert (found.cosine, found.passed) == (-0.75, 0.25)
    # Steps 49 and 50 are in the 25th part of 50 if counted from 0: part = 50 * step // 101.
    assert np.flatnonzero(~np.isnan(found.curve)).tolist() == [24, 44, 49]
    assert found.curve[[24, 44, 49]].tolist() == [-1.0, 0.25, 0.75]
    assert " ".join(given[0]).startswith(
        "--env Catch --steps 100 --seed 3 --log-steps 1 --aux inverse"
    )


def test_without_a_head_its_flags_are_left_out(monkeypatch):
    given = []
    monkeypatch.setattr(engine, "train_log", lambda x: given.append(x) or [{"step": "1"}])
    flags = [*FLAGS, "--teacher", "optimal", "--gate.main", "policy"]
    run(ALONE, "", 1, Options(env="Catch", steps=100), flags)
    assert not {"--aux", "--gate", "--teacher", "--gate.main"} & set(given[0])


def test_coefficients_are_scaled_from_the_heads_own(monkeypatch):
    given = []
    monkeypatch.setattr(engine, "train_log", lambda x: given.append(" ".join(x)) or [{"step": "1"}])
    run("pixel_control", "sum", 1, Options(env="Catch", steps=100, scale=0.1), FLAGS)
    run("spr", "sum", 1, Options(env="Catch", steps=100, scale=0.1), FLAGS)
    run("spr", "sum", 1, Options(env="Catch", steps=100), FLAGS)
    # 1 and 5 by default.
    assert "--gate sum --aux.pixel-control.coefficient 0.1 " in given[0]
    assert "--aux.spr.coefficient 0.5 " in given[1]
    assert "coefficient" not in given[2]


def test_what_train_refuses_is_said():
    with pytest.raises(ValueError, match=r"inverse, nonsense, seed 1: train\.py: --gate nonsense"):
        run("inverse", "nonsense", 1, Options(env="Catch", steps=10), FLAGS)


def test_a_run_survives_its_lines(tmp_path):
    curve = np.full(POINTS, NAN)
    curve[3:] = np.arange(POINTS - 3) / 4
    first = Outcome(ALONE, "", 1, 0.5, 0.25, NAN, NAN, 3.0, curve)
    second = Outcome("curl", "cosine", 2, -0.5, 0.125, -0.75, 0.5, 4.0, curve)
    runs = {(each.head, each.gate, str(each.seed)): each for each in (first, second)}
    study = study_in(tmp_path / "new")
    study.complete(list(runs), lambda key: runs[key].cells(), [], keep=False)
    remarks, found = read(study)
    assert remarks[0].startswith("# command: python -m experiments.studies.heads")
    assert (found[1].head, found[1].gate, found[1].seed) == ("curl", "cosine", 2)
    assert (found[1].final, found[1].whole, found[1].cosine) == (-0.5, 0.125, -0.75)
    np.testing.assert_array_equal(found[1].curve, curve)
    assert np.isnan(found[0].cosine)


def test_everything_is_written_and_what_is_there_is_kept(tmp_path, capsys):
    flags = f"--env Catch --steps 512 --seeds 1 2 --gates sum --heads inverse --output {tmp_path}/x"
    assert main([*flags.split(), "--", *FLAGS]) == 0
    folder = tmp_path / "x"
    _, runs = read(study_in(folder))
    names = [(run.head, run.gate, run.seed) for run in runs]
    assert names == [(ALONE, "", 1), ("inverse", "sum", 1), (ALONE, "", 2), ("inverse", "sum", 2)]
    # A head more: only its runs are made.
    capsys.readouterr()
    more = flags.replace("inverse", "inverse termination --keep")
    assert main([*more.split(), "--", *FLAGS]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if " s" in line and "seed" in line][
        :2
    ] == ["termination"] * 2
    _, after = read(study_in(folder))
    assert [each.final for each in after[:4]] == [each.final for each in runs]
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["head"] for row in rows] == [ALONE, "inverse", "termination"]
    assert imread(folder / "heads.png").shape[2] == 4


def test_a_head_that_does_not_fit_is_one_sentence(tmp_path, capsys):
    flags = f"--env CartPole-v1 --steps 64 --seeds 1 --heads pixel_control --output {tmp_path}/x"
    assert main([*flags.split(), "--", "--threads", "1", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("heads: pixel_control, sum, seed 1: train.py: ")


def outcome(head, gate, seed, final, whole):
    gated = gate == "cosine"
    curve = np.linspace(0, final, POINTS)
    curve[0] = NAN
    return Outcome(
        head, gate, seed, final, whole, 0.5 if gated else NAN, 0.25 if gated else NAN, 1.0, curve
    )


SEEDS = range(1, 8)
"""With two arms, 2 / 2^7 = 0.016 for seven of one sign, times two: below 0.05."""


@pytest.fixture
def outcomes():
    """A head that helps everywhere when added, and only in the end when gated."""
    runs = [outcome(ALONE, "", seed, float(seed), seed / 2) for seed in SEEDS]
    runs += [outcome("spr", "sum", seed, seed + 1.0, seed / 2 + 1) for seed in SEEDS]
    runs += [outcome("spr", "cosine", seed, seed + seed / 4, seed / 2) for seed in SEEDS]
    return runs


def test_an_arm_is_its_head_and_its_gate():
    assert (name("spr", "sum"), name(ALONE, "")) == ("spr, sum", ALONE)


def test_arms_are_compared_seed_by_seed_in_both_measures(outcomes):
    final, whole = (verdicts(outcomes, measure) for measure in ("final", "whole"))
    assert list(final) == [("spr", "sum"), ("spr", "cosine")]
    assert final["spr", "sum"].difference.value == pytest.approx(1.0)
    # The mean of 1 / 4 to 7 / 4.
    assert final["spr", "cosine"].difference.value == pytest.approx(1.0)
    assert final["spr", "cosine"].word == "helped"
    assert whole["spr", "cosine"].word == "open"


def test_what_lies_below_was_harmed(outcomes):
    worse = [
        outcome("spr", "sum", x.seed, x.final - 2, x.whole) if x.gate == "sum" else x
        for x in outcomes
    ]
    assert verdicts(worse, "final")["spr", "sum"].word == "harmed"


def test_few_seeds_give_no_verdict_however_far_apart(outcomes):
    few = [each for each in outcomes if each.seed <= 6]
    # 2 / 2^6 = 0.031 is below 0.05, but there are two arms.
    assert verdicts(few, "final")["spr", "sum"].p == pytest.approx(2 * 2 / 2**6)
    assert verdicts(few, "final")["spr", "sum"].word == "open"


def test_the_table_has_a_line_per_arm(outcomes):
    columns, alone, added, gated = summary(outcomes)
    assert columns.startswith("head,gate,seeds,final,final_difference,final_low,final_high,final_p")
    assert alone == f"{ALONE},,7,4.000,,,,,,2.000,,,,,,,"
    assert added == (
        "spr,sum,7,5.000,1.000,1.000,1.000,0.0312,helped,3.000,1.000,1.000,1.000,0.0312,helped,,"
    )
    assert gated.endswith(",2.000,0.000,0.000,0.000,1.0000,open,0.500,0.250")
    assert {line.count(",") for line in (columns, alone, added, gated)} == {16}


def test_a_missing_seed_is_refused(outcomes):
    with pytest.raises(ValueError, match="spr, cosine has other seeds than main only"):
        summary(outcomes[:-1])


def test_every_head_has_a_panel(outcomes, tmp_path):
    many = outcomes + [outcome(head, "sum", seed, 1.0, 0.5) for head in "abcd" for seed in SEEDS]
    draw(many, 1000, "title").savefig(tmp_path / "x.png")
    height, width, _ = imread(tmp_path / "x.png").shape
    # Two rows of four.
    assert 1.5 < width / height < 2.5
