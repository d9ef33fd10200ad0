import numpy as np
import pytest
import torch

from agents.gates import make
from agents.gates.methods.nash import AuxiNash
from agents.gates.methods.sum import Sum
from agents.learning.auxinash import LearnedPreference
from examples import preference
from examples.preference import LEARNT, POINTS, WANTED, draw, follow, judge, learn_whom_to_trust


def test_the_targets_are_the_papers():
    inputs, targets, start = draw(seed=3)
    noise = targets - inputs @ WANTED.T
    assert inputs.shape == (1000, 2)
    # The deviation of 1,000 normal numbers is right to 2 %, thrice that is far out.
    torch.testing.assert_close(noise.std(0), torch.tensor([5.0, 0.25, 0.25]), rtol=0.07, atol=0)
    assert start.abs().max() <= 4


def test_main_only_learning_finds_least_squares(monkeypatch):
    monkeypatch.setattr(preference, "LEARNING_RATE", 0.05)
    inputs, targets, _ = draw(seed=0)
    best = torch.linalg.lstsq(inputs, targets[:, :1]).solution.squeeze()
    distance, learnt = follow(Sum(), [0], 300, num_losses=1)
    assert distance.shape == (1, POINTS + 1)
    assert learnt == []
    # w* of a batch of 256 lies 5 / 16 from that of all samples, in the mean over batches less.
    assert distance[0, 0] > 1
    assert distance[0, -1] == pytest.approx(float((best - WANTED[0]).norm()), abs=0.3)


@pytest.mark.parametrize("name", ["sum", "projection", "auxinash"])
def test_seeds_do_not_know_of_each_other(name):
    together, _ = follow(make(name), [2, 7], 40)
    for row, seed in zip(together, (2, 7), strict=True):
        np.testing.assert_allclose(row, follow(make(name), [seed], 40)[0][0], rtol=1e-4)


def test_a_course_begins_at_its_start():
    _, _, start = draw(seed=5)
    distance, _ = follow(Sum(), [5], 40)
    assert distance[0, 0] == pytest.approx(float((start - WANTED[0]).norm()))


def test_a_preference_is_learnt_from_every_25th_batch():
    gate = AuxiNash([1 / 3] * 3)
    _, learnt = follow(gate, [1], 60, learner=LearnedPreference(gate))
    steps = np.linspace(0, 60, POINTS + 1)
    moved = [not np.allclose(now, 1 / 3) for now in learnt]
    # Batch 25 is the first with a step before it; it is learnt from after point 25 is noted.
    assert moved == (steps > 25).tolist()
    assert np.sum(learnt, axis=1) == pytest.approx(1.0)


def test_claims_are_shown_where_courses_show_them():
    away = {name: np.full((6, 2), 2.0) for name in ("main only", "sum", "auxinash")}
    away[LEARNT] = np.linspace(0.9, 1.1, 12).reshape(6, 2)
    trust = np.tile([0.5, 0.4, 0.1], (6, 2, 1)) + np.linspace(0, 0.01, 6)[:, None, None]
    assert [verdict.outcome for verdict in judge(away, trust)] == ["shown"] * 5
    assert [verdict.outcome for verdict in judge(away, trust[..., ::-1])][:2] == ["reversed"] * 2
    away[LEARNT] = away[LEARNT] + 3
    assert [verdict.outcome for verdict in judge(away, trust)][2:] == ["reversed"] * 3


def test_the_table_has_preferences_where_they_are_learnt():
    rows, figure, verdicts = learn_whom_to_trust(seeds=2, steps=POINTS)
    assert len(rows) == 6 * 2 * (POINTS + 1)
    assert rows[0]["harmful"] == ""
    assert next(row["harmful"] for row in rows if row["gate"] == LEARNT) == "0.3333"
    assert len(figure.axes) == 2
    assert len(verdicts) == 5
