import csv

import numpy as np
import pytest

from examples.regression import AVERAGED, Options, best, judge, lines, main, tables
from examples.tanh import Scores

LAMBDAS = (0.1, 10.0)
TINY = "--scale 0.02 --seeds 2 --epochs 2 --lambdas 0.1 10 --gates sum --decays 0.99"


def scores_of(same, similar, unrelated):
    """Test losses of six seeds by relation and lambda; validation losses are half of them."""
    test = np.array([same, similar, unrelated])[..., None] + np.linspace(0, 0.01, 6)
    return Scores(test / 2, test)


@pytest.fixture
def scores():
    """As Tran-Thien found them."""
    alone = np.full((1, 1, 6), 0.45)
    return {
        "main only": Scores(alone / 2, alone),
        "sum": scores_of([0.44, 0.43], [0.44, 0.46], [0.45, 0.54]),
        "cosine": scores_of([0.45, 0.44], [0.45, 0.45], [0.43, 0.45]),
        AVERAGED: scores_of([0.42, 0.41], [0.42, 0.43], [0.44, 0.46]),
    }


def test_the_best_lambda_is_chosen_by_validation():
    score = scores_of([0.4, 0.3], [0.3, 0.4], [0.2, 0.2])
    swapped = Scores(score.validation[:, ::-1], score.test)
    assert best(score, "same")[0] == 1
    number, losses = best(swapped, "same")
    assert number == 0
    np.testing.assert_array_equal(losses, score.test[0, 0])


def test_claims_are_shown_where_the_losses_show_them(scores):
    assert [verdict.outcome for verdict in judge(scores, LAMBDAS)] == ["shown"] * 5
    scores["sum"], scores[AVERAGED] = scores[AVERAGED], scores["sum"]
    outcomes = [verdict.outcome for verdict in judge(scores, LAMBDAS)]
    assert outcomes[:2] == ["reversed"] * 2
    assert "at lambda 10 against" in judge(scores, LAMBDAS)[0].evidence


def test_only_gates_that_learnt_are_judged(scores):
    del scores["sum"]
    assert len(judge(scores, LAMBDAS)) == 2


def test_the_table_and_the_figure_hold_every_seed(scores):
    rows = tables(scores, LAMBDAS)
    assert len(rows) == 6 + 3 * 3 * 2 * 6
    assert rows[0] == {
        "gate": "main only",
        "relation": "",
        "lambda": "",
        "seed": 0,
        "validation": "0.22500",
        "test": "0.45000",
    }
    [row] = [
        row
        for row in rows
        if (row["gate"], row["relation"], row["lambda"], row["seed"]) == ("sum", "unrelated", 10, 5)
    ]
    assert row["test"] == "0.55000"
    panel = {line.name: line for line in lines(scores, LAMBDAS)["unrelated"]}
    # 0.45 and 0.54, each 0.005 more in the mean over seeds, less 0.45.
    assert panel["sum"].values.mean(0) == pytest.approx([0.005, 0.095])
    assert "main only" not in panel


def test_a_tiny_run_leaves_tables_and_figures(tmp_path, capsys):
    arguments = [*TINY.split(), "--steps", "20", "--linear-seeds", "2", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "regression.csv",
        "regression.png",
        "regression_linear.csv",
        "regression_linear.png",
    }
    text = (tmp_path / "regression.csv").read_text("utf-8").splitlines()
    rows = list(csv.DictReader(line for line in text if not line.startswith("#")))
    assert len(rows) == 2 + 2 * 3 * 2 * 2
    said = capsys.readouterr().out
    assert f"- same: {AVERAGED} has a lower test loss than sum" in said
    assert "- linear: the harmful auxiliary is trusted less than at the start" in said


def test_one_of_the_two_can_be_had_alone(tmp_path):
    assert main([*TINY.split(), "--tasks", "tanh", "--output", str(tmp_path)]) == 0
    assert not (tmp_path / "regression_linear.csv").exists()


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"gates": ("cosinus",)}, "gate must be one of cosine"),
        ({"gates": ("attittud",)}, "--gates attittud needs more than gradients and losses"),
        ({"decays": (1.0,)}, "decay must be in"),
        ({"lambdas": ()}, "--lambdas must be numbers above 0"),
        ({"lambdas": (1.0, 0.0)}, "--lambdas must be numbers above 0"),
        ({"scale": 3.0}, "--scale must be from 0.02 to 1, not 3"),
        ({"seeds": 0}, "at least 1"),
        ({"steps": 19}, "--steps must be at least 20"),
    ],
)
def test_options_out_of_range_are_refused(wrong, cure):
    with pytest.raises(ValueError, match=cure):
        Options(**wrong)
