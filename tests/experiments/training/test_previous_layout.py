"""Runs made before the packages were rearranged (commit dd211a0) continue as they would have.

Each archive holds a run of Catch as that commit left it: config, versions, log, policy, and the
checkpoint two updates before the end (its later ones are left out, and its events):

    python train.py --env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --steps 120 \
        --device cpu --threads 1 --precision fp32 --log-steps 1 --checkpoint-minutes 1e-9 \
        --seed 5 --torso.mlp.widths 8 6

with, by archive,

    projection  --aux inverse termination --gate projection --gate.projection.decay 0.9
    rotograd    --algo ppo --algo.ppo.minibatches 3 --core gru --core.gru.width 4
                --aux multi_horizon inverse --gate rotograd
    auxinash    --aux inverse multi_horizon --gate auxinash --gate.auxinash.learn-every 2
"""

import csv
import zipfile
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from agents.runtime.checkpoint import load_tensors
from agents.teachers import load_policy
from experiments.training.command import main
from experiments.training.run_folder import read_config
from experiments.training.teachers import SHIPPED_TEACHERS
from experiments.training.trainer import DONE

ARCHIVES = Path(__file__).parent / "previous_layout"
CLOCKED = {"seconds", "sps", "environment", "acting", "learning"}
"""Columns of the log that measure time."""


@pytest.fixture(params=["projection", "rotograd", "auxinash"])
def run(request, tmp_path, monkeypatch):
    """The folder of an old run, two updates before its end."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(ARCHIVES / f"{request.param}.zip") as archive:
        archive.extractall("run")
    assert read_config(Path("run")).choice.gate == request.param
    return Path("run")


def policy(run):
    weights, card = load_tensors(run / "policy.safetensors")
    return card, weights


def table(run):
    """The log: the steps, and the numbers that do not measure time; NaN where a cell is empty."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in CLOCKED]
    return names, torch.tensor([[float(row[name] or "nan") for name in names] for row in rows])


def test_an_old_run_continues_exactly(run, capsys):
    (card, weights), (names, numbers) = policy(run), table(run)
    assert main(["--resume", "run"]) == DONE
    assert "Resumed at step 96, exactly." in capsys.readouterr().out
    again, updated = policy(run)
    # Cards name plugins now.
    younger = {"env_options": card["env_options"] | {"mirrored": False}}
    assert again == card | {"plugins": []} | younger
    # Bit for bit on one machine; processors differ in the last digits of their sums.
    assert_close(updated, weights, rtol=1e-4, atol=1e-6)
    columns, logged = table(run)
    assert columns == names
    assert logged[:, 0].tolist() == [12.0 * update for update in range(1, 11)]
    assert_close(logged, numbers, rtol=1e-3, atol=1e-5, equal_nan=True)


def test_the_shipped_teacher_still_loads():
    agent, card = load_policy(SHIPPED_TEACHERS / "Breakout", torch.device("cpu"), "fp32")
    assert card.env == "Breakout"
    observation = torch.zeros(1, 1, *card.observation_shape, dtype=torch.uint8)
    assert agent.logits(observation).isfinite().all()
