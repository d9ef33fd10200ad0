"""Runs that learn, as a user starts them: with the numbers of the presets, or nearly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.runtime.checkpoint import load_tensors, save_tensors
from configs.programs import EvaluateOptions
from experiments.evaluation.command import evaluate

pytestmark = pytest.mark.seconds

ROOT = Path(__file__).resolve().parent.parent


def train(folder, line):
    """Runs `train.py` in a process of its own; returns its folder."""
    subprocess.run(
        [sys.executable, ROOT / "train.py", *line.split(), "--threads", "1", "--run-dir", folder],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return folder


def score(run, episodes=100):
    """The mean return of 100 episodes, actions sampled."""
    options = EvaluateOptions((str(run),), episodes, device="cpu", threads=1)
    (result,) = evaluate(options)
    return result.scores.mean


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run of Catch with the default numbers."""
    return train(tmp_path_factory.mktemp("good") / "run", "--env Catch --device cpu")


@pytest.fixture(scope="module")
def mirrored(good, tmp_path_factory):
    """A policy that goes right where the good one goes left: away from the ball."""
    weights, card = load_tensors(good / "policy.safetensors")
    for name in ("policy.weight", "policy.bias"):
        weights[name] = weights[name].flip(0)
    path = tmp_path_factory.mktemp("mirrored") / "policy.safetensors"
    save_tensors(path, weights, card)
    return path


def test_catch_is_solved_with_the_default_numbers(good):
    assert score(good) >= 0.95  # of 1


@pytest.mark.slow  # one seed of it runs with the others
@pytest.mark.parametrize("seed", [2, 3])
def test_catch_is_solved_from_other_seeds(seed, tmp_path):
    assert score(train(tmp_path / "run", f"--env Catch --device cpu --seed {seed}")) >= 0.95


@pytest.mark.slow  # most of a minute
def test_cartpole_is_solved_with_the_default_numbers(tmp_path):
    # Gymnasium calls a mean of 195 solved in v0 and 475 in v1, of 500; chance gets 22.
    assert score(train(tmp_path / "run", "--env CartPole-v1 --device cpu")) >= 400


def test_a_student_reaches_its_teacher_long_before_it_would_have_learnt_alone(good, tmp_path):
    short = "--env Catch --device cpu --precision fp32 --steps 30000"
    alone = train(tmp_path / "alone", short)
    student = train(tmp_path / "student", f"{short} --aux distill --gate sum --teacher {good}")
    assert score(alone) <= 0.5
    assert score(student) >= 0.9


def test_a_teacher_that_knows_it_all_wrong_hurts_the_sum_and_not_the_gate(mirrored, tmp_path):
    assert score(mirrored) <= -0.95
    short = "--env Catch --device cpu --precision fp32 --steps 80000 --algo.a2c.normalize-advantage"
    helped = f"{short} --aux distill --teacher {mirrored} --gate"
    assert score(train(tmp_path / "sum", f"{helped} sum")) <= 0
    # Well above the sum; how far training has come by then differs between processors.
    assert score(train(tmp_path / "cosine", f"{helped} cosine")) >= 0.4
