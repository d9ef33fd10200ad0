"""Every script runs on its stand-in, refuses what is wrong, and judges by the numbers."""

import csv
from importlib import import_module

import numpy as np
import pytest
import torch

from configs.errors import UsageError
from examples.supervised import dense, pareto, rotated, rotations, standins, study
from examples.supervised.loop import Network, Trained
from examples.supervised.results import Results
from examples.supervised.standins import FEATURES, faces, rooms
from examples.supervised.study import LEARNT, best, judge_lambdas

TINY = {
    "rotated": "--angles 0 90 --gates sum cosine attittud",
    "pairs": "--gates sum cosine --width 4 --blocks 1 --main-images 4 --auxiliary-images 4",
    "pareto": "--preferences 2 --units 8",
    "semisupervised": f"--labels 20 --channels 4 --features 8 --gates sum {LEARNT}",
    "chunking": "--gates sum rotograd --lambdas 1 --sentences 20 --units 4",
    "decay": "--gates sum projection(decay=0.99) --lambdas 1 10 --units 8",
    "attributes": "--gates sum projection --lambdas 1 --labels 20 --channels 4 --side 8",
    "dense": "--gates sum nash --widths 4",
    "rotations": "--gates sum gradnorm(main_ratio=True) rotograd --units 8",
    "images_text": "--gates sum attittud(eta=(1.0,1.0,-1.0),fresh=True) --coefficients 1 "
    "--channels 4 --features 8",
}
NEEDS = {
    "rotated": "MNIST's four files",
    "pairs": "ImageNet, CIFAR or MNIST",
    "pareto": "four files in MNIST's format",
    "semisupervised": "CIFAR-10's binary files",
    "chunking": "CoNLL-2000",
    "decay": "IMDB's reviews",
    "attributes": "CelebA's lists",
    "dense": "MTAN's preprocessed NYUv2",
    "rotations": "four files in MNIST's format",
    "images_text": "CIFAR-100",
}


def main_of(name):
    return import_module(f"examples.supervised.{name}").main


@pytest.fixture(autouse=True)
def _small_standins(monkeypatch):
    """Drawn data are a hundredth of a second's work in tests."""
    monkeypatch.setattr("examples.supervised.dense.rooms", lambda f: rooms(f, 3, 2, side=16))
    monkeypatch.setattr("examples.supervised.attributes.faces", lambda f: faces(f, 60))


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_run_on_the_stand_in_leaves_a_table_and_figures(tmp_path, capsys, name):
    small = ["--steps", "10", "--seeds", "2", "--output", str(tmp_path)]
    assert main_of(name)([*TINY[name].split(), *small]) == 0
    lines = (tmp_path / f"{name}.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith(f"# command: python examples/supervised/{name}.py ")
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert (tmp_path / f"{name}.png").is_file()
    verdicts = [line for line in lines if line.startswith("# ") and "2 pairs" in line]
    assert verdicts
    assert capsys.readouterr().out.count("- ") >= len(verdicts)


@pytest.mark.parametrize("name", TINY)
def test_a_folder_that_is_not_there_is_one_sentence(tmp_path, capsys, name):
    arguments = ["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    assert main_of(name)(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}.py: --data {tmp_path}/nowhere is not a folder: give ")
    assert NEEDS[name] in line
    assert line.endswith("or drop --data for the stand-in.")


@pytest.mark.parametrize("name", TINY)
def test_a_folder_of_something_else_is_one_sentence(tmp_path, capsys, name):
    (tmp_path / "readme.md").write_text("nothing", "utf-8")
    assert main_of(name)(["--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}.py: --data {tmp_path} has ")


def test_classes_of_folders_are_paired(tmp_path, monkeypatch):
    images, labels = standins.digits()
    kept = np.flatnonzero(labels < 4)[:64]
    monkeypatch.setattr(standins, "digits", lambda: (images[kept], labels[kept]))
    monkeypatch.setattr(standins, "TRAINING", 52)
    standins.digit_folders(tmp_path / "data")
    arguments = [*TINY["pairs"].split(), "--data", str(tmp_path / "data"), "--side", "8"]
    small = ["--steps", "10", "--seeds", "1", "--output", str(tmp_path / "out")]
    assert main_of("pairs")([*arguments, *small]) == 0
    assert (tmp_path / "out" / "pairs.csv").is_file()


def test_cityscapes_has_two_tasks(tmp_path):
    rooms(tmp_path / "data", 2, 2, side=8, normals=False)
    arguments = [*TINY["dense"].split(), "--data", str(tmp_path / "data"), "--steps", "10"]
    assert main_of("dense")([*arguments, "--seeds", "1", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "dense.csv").read_text("utf-8")
    assert "relative_error" in text
    assert "angle_mean" not in text


def test_landmarks_are_an_auxiliary_too(tmp_path):
    arguments = [*TINY["attributes"].split(), "--auxiliary", "landmarks", "--steps", "10"]
    assert main_of("attributes")([*arguments, "--seeds", "1", "--output", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("name", "arguments", "cure"),
    [
        ("rotated", "--gates rotograd", "rotates features of inputs that all tasks share"),
        ("rotated", "--gates cosin", "cosine"),
        ("rotated", "--gates sum sum", "names a gate twice"),
        ("rotated", "--steps 9", "--steps must be at least 10"),
        ("rotated", "--angles 90 0", "--angles must begin with 0"),
        ("rotated", "--main-images 2000", "give smaller numbers"),
        ("pairs", "--width 6", "--width must be a multiple of 4"),
        ("pairs", "--auxiliary-images 200", "give smaller numbers"),
        ("pareto", "--least 0.5", "--least must be"),
        ("semisupervised", "--labels 5000", "--labels must be at most 1397"),
        ("semisupervised", "--side 7", "--side must be an even number"),
        ("decay", "--gates gradnorm", "weight decay is no loss"),
        ("chunking", "--lambdas 1 0.1", "--lambdas must rise"),
        ("attributes", "--attribute Attractiv", "but Attractive"),
        ("attributes", "--side 4 --channels 4 4 4", "--side is too small"),
        ("dense", "--widths 6", "--widths must be multiples of 4"),
        ("images_text", "--other x", "--other has no effect on CIFAR-100"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, capsys, name, arguments, cure):
    try:
        code = main_of(name)([*arguments.split(), "--output", str(tmp_path)])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert cure in line


def test_all_gates_are_those_that_can_be_served():
    options = study.Options(gates=("all",))
    assert "rotograd" not in options.names()
    assert "rotograd" in options.names(width=8)
    assert {"significant", "attittud", LEARNT} <= set(options.names())
    with pytest.raises(UsageError, match="drop it"):
        study.Options(gates=("rotograd",)).names()


def results(values, metrics=("validation", "test"), cosines=None):
    """Scores of six seeds, by condition and gate; cosines by condition."""
    spread, network = np.linspace(0, 0.001, 6).tolist(), Network(torch.nn.Identity(), [])

    def trained(condition, value):
        cosine = torch.full((10,), (cosines or {}).get(condition, 0.0))
        scores = [dict.fromkeys(metrics, value + each) for each in spread]
        return [Trained(network, each, cosine + 0.01 * each[metrics[0]], ()) for each in scores]

    conditions = list(dict.fromkeys(condition for condition, _ in values))
    gates = list(dict.fromkeys(gate for _, gate in values))
    return Results(conditions, gates, {key: trained(key[0], each) for key, each in values.items()})


def test_results_are_read_back_from_their_table(tmp_path):
    arms = [(condition, gate) for condition in ("0", "90") for gate in ("main only", "sum")]
    found = results({arm: 0.5 + 0.1 * number for number, arm in enumerate(arms)})
    study.publish(tmp_path, "table", ["script.py"], found.rows(), {}, [])
    again = Results.read(tmp_path / "table.csv")
    assert (again.conditions, again.gates) == (found.conditions, found.gates)
    for condition, gate in arms:
        for metric in ("validation", "test"):
            scores = [each.score(condition, gate, metric) for each in (again, found)]
            np.testing.assert_allclose(*scores, atol=1e-4)
        mean = found.cosine(condition, gate).mean(1, keepdims=True)
        np.testing.assert_allclose(again.cosine(condition, gate), mean, atol=1e-4)


def test_every_gate_is_judged_at_the_lambda_that_suits_it():
    found = results(
        {
            ("1", "main only"): 0.5,
            ("1", "sum"): 0.6,
            ("1", "projection"): 0.55,
            ("10", "main only"): 0.5,
            ("10", "sum"): 0.4,
            ("10", "projection"): 0.7,
        }
    )
    assert best(found, "sum")[0] == "1"
    assert best(found, "projection")[0] == "10"
    verdicts = judge_lambdas(found, "it")
    assert [each.outcome for each in verdicts] == ["shown"] * 4
    assert "10, projection is better than sum" in verdicts[-1].claim
    swapped = {("1", "main only"): 0.7, ("1", "sum"): 0.6, ("1", "projection"): 0.5}
    assert {each.outcome for each in judge_lambdas(results(swapped), "it")} == {"reversed"}


ARMS = ("main only", "sum", "cosine", "cosine_unweighted")


def test_claims_about_turned_images_follow_the_numbers():
    def found(gains, cosines):
        values = {
            (angle, gate): 0.8 + gain
            for angle, row in gains.items()
            for gate, gain in zip(ARMS, row, strict=True)
        }
        return results(values, ("accuracy",), cosines)

    as_claimed = {"0": (0, 0.05, 0.02, 0.03), "90": (0, -0.03, 0.0, -0.005)}
    verdicts = rotated.judge(found(as_claimed, {"0": 0.09, "90": 0.04}))
    assert [each.outcome for each in verdicts] == ["shown"] * 5
    opposite = {"0": (0, -0.05, 0, 0), "90": (0, 0.03, -0.03, -0.02)}
    verdicts = rotated.judge(found(opposite, {"0": 0.04, "90": 0.09}))
    assert [each.outcome for each in verdicts] == ["reversed"] * 5


def test_claims_about_fronts_follow_the_numbers():
    jitter = np.linspace(0, 0.001, 6)[:, None, None]
    wide = jitter + np.array([[0.2, 0.9], [0.7, 0.7], [0.9, 0.2]])
    narrow = jitter / 2 + np.array([[0.6, 0.6], [0.61, 0.6], [0.6, 0.61]])
    fronts = {"auxinash": wide, "weighted sum": narrow, "nash": narrow}
    # The preference, the hypervolume against both, and the reach against nash.
    assert [each.outcome for each in pareto.judge(fronts)] == ["shown"] * 4
    turned = {"auxinash": narrow[:, ::-1], "weighted sum": wide, "nash": wide}
    outcomes = [each.outcome for each in pareto.judge(turned)]
    assert outcomes[1:] == ["reversed"] * 3


def test_claims_about_means_of_all_tasks_follow_the_numbers():
    jitter = np.linspace(0, 0.1, 6)
    deltas = {"sum": 3 + jitter, "nash": 1 + jitter / 2, LEARNT: jitter / 3}
    deltas |= {"cosine_unweighted": 9 + jitter}
    assert [each.outcome for each in dense.judge(deltas)] == ["shown"] * 3
    assert dense.judge({"sum": jitter, "nash": 5 + jitter / 2})[0].outcome == "reversed"
    changes = {"sum": jitter, "rotograd": 1 + jitter / 2, "gradnorm(alpha=1.0)": jitter / 2 - 1}
    outcomes = [each.outcome for each in rotations.judge(changes)]
    assert outcomes == ["shown", "reversed"]


def test_the_attributes_of_the_faces_are_ten():
    assert len(set(FEATURES)) == 10
