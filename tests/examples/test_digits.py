import csv

import numpy as np
import pytest

from examples import digits
from examples.digits import Options, judge_pairs, judge_rotation, main
from examples.parts import Part

TINY = "--steps 10 --seeds 2 --images 300 --auxiliary-images 100 --angles 0 90 180"


def part_of(kinds, gains, cosines):
    """A part of six seeds, one task of each kind, in which gates gain so much."""
    spread = np.linspace(0, 0.001, 6)
    alone = np.full((len(kinds), 6), 0.8)
    return Part(
        "part",
        kinds,
        {kind: slice(number, number + 1) for number, kind in enumerate(kinds)},
        {"main only": alone}
        | {gate: alone + np.array(gain)[:, None] + spread for gate, gain in gains.items()},
        {"cosine": (np.array(cosines)[:, None] + spread)[..., None]},
    )


@pytest.fixture
def rotation():
    gains = {"sum": [0.03, -0.02], "cosine": [0.02, 0.0], "cosine_unweighted": [0.02, -0.005]}
    return part_of(("0", "90"), gains, [0.04, 0.02])


def test_claims_about_rotation_are_shown_where_numbers_show_them(rotation):
    assert [verdict.outcome for verdict in judge_rotation(rotation, "90")] == ["shown"] * 5


def test_claims_about_rotation_are_not_shown_without_a_difference():
    gains = {"sum": [-0.03, 0.02], "cosine": [0.0, -0.03], "cosine_unweighted": [0.0, -0.02]}
    part = part_of(("0", "90"), gains, [0.02, 0.04])
    assert [verdict.outcome for verdict in judge_rotation(part, "90")] == ["reversed"] * 5


def test_claims_about_pairs_follow_the_numbers():
    gains = {"sum": [0.05, 0.03, 0.0], "cosine": [0.03, 0.01, 0.0]}
    part = part_of(("same", "near", "far"), gains, [0.05, 0.0, -0.03])
    assert [verdict.outcome for verdict in judge_pairs(part)] == ["shown"] * 3
    gains = {"sum": [0.05, 0.0, 0.03], "cosine": [0.03, 0.01, -0.02]}
    part = part_of(("same", "near", "far"), gains, [0.05, -0.03, 0.0])
    assert [verdict.outcome for verdict in judge_pairs(part)] == ["reversed"] * 3


def test_a_tiny_run_leaves_a_table_and_figures(tmp_path, monkeypatch, capsys):
    every = digits.arms

    def few(attittud):
        made = every(attittud)
        return {name: made[name] for name in ("main only", *digits.JUDGED, "attittud")}

    monkeypatch.setattr(digits, "arms", few)
    assert main([*TINY.split(), "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "digits.csv",
        "digits_rotation.png",
        "digits_pairs.png",
        "digits_cosine.csv",
        "digits_cosine.png",
    }
    lines = (tmp_path / "digits.csv").read_text("utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    # Three angles and seven pairs, of five gates and two seeds.
    assert len(rows) == (3 + 7) * 5 * 2
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    said = capsys.readouterr().out
    assert "at 90 degrees, sum is less accurate than main only" in said
    assert said.startswith("Pairs, the same, near and far: ") or "is left out" in said


def test_a_folder_without_mnist_is_one_sentence(tmp_path, capsys):
    arguments = ["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"digits.py: --data {tmp_path}/nowhere has no train-images-idx3-ubyte")
    assert line.endswith("or drop --data for scikit-learn's digits.")


def test_too_few_images_for_tests_are_refused(tmp_path, capsys):
    assert main(["--auxiliary-images", "1760", "--output", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "leave" in line
    assert "--auxiliary-images" in line


def test_digits_that_are_missing_are_refused(tmp_path, capsys):
    few = "--images 12 --main-images 2 --auxiliary-images 2 --output"
    assert main([*few.split(), str(tmp_path)]) == 2
    assert "take more --images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"seeds": 0}, "at least 1"),
        ({"steps": 9}, "--steps must be at least 10"),
        ({"angles": (90.0, 0.0)}, "--angles must begin with 0"),
        ({"angles": (0.0,)}, "--angles must begin with 0 and have another"),
        ({"angles": (0.0, 90.0, 90.0)}, "--angles names an angle twice"),
    ],
)
def test_options_out_of_range_are_refused(wrong, cure):
    with pytest.raises(ValueError, match=cure):
        Options(**wrong)
