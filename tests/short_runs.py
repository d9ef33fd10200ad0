"""Short runs of Catch, and what they leave behind, for the tests of the command."""

import csv
import shutil
import signal
from pathlib import Path

import pytest

from agents.learning.learner import Learner
from agents.runtime.checkpoint import load_tensors
from experiments.training.command import main
from experiments.training.trainer import DONE

CLOCKED = {"seconds", "sps", "environment", "acting", "learning"}
"""The columns of the log that tell of time."""

# Ten updates of 12 steps, each with its line in the log and its checkpoint.
UPDATE, UPDATES = 12, 10
SHORT = (
    "--env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --steps 120 --device cpu --threads 1 "
    "--precision fp32 --log-steps 1 --checkpoint-minutes 1e-9"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
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


def stop_at(monkeypatch, update, number):
    """Sends this process a signal in the midst of an update."""
    before = Learner.update

    def interrupted(self, trajectory):
        if self.updates == update:
            signal.raise_signal(number)
        return before(self, trajectory)

    monkeypatch.setattr(Learner, "update", interrupted)
