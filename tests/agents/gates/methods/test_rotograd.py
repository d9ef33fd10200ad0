"""RotoGrad's weights against the paper's formulas, one judgement after the other."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.testing import assert_close

from agents.gates.methods.rotograd import RotoGrad, RotoGradConfig

BURN_IN = 3


def slow_weights(history: list[NDArray[np.float64]], burn_in: int) -> NDArray[np.float64]:
    """C / |g_k| of the last judgement, as the paper writes C and its code the burn-in."""
    first = history[0] if len(history) <= burn_in else history[burn_in]
    now = history[-1]
    total = sum(np.linalg.norm(now[j]) / np.linalg.norm(first[j]) for j in range(len(now)))
    c = 0.0
    for k in range(len(now)):
        alpha = np.linalg.norm(now[k]) / np.linalg.norm(first[k]) / total
        c += alpha * np.linalg.norm(now[k])
    return np.array([c / np.linalg.norm(row) for row in now])


def test_weights_are_those_of_the_paper_before_and_after_the_burn_in() -> None:
    generator, gate = np.random.default_rng(0), RotoGrad(burn_in=BURN_IN)
    history: list[NDArray[np.float64]] = []
    for _ in range(BURN_IN + 3):
        history.append(generator.normal(size=(3, 7)) * generator.uniform(0.1, 10, size=(3, 1)))
        weights = gate.judge(torch.from_numpy(history[-1])).weights[0]
        expected = slow_weights(history, BURN_IN)
        assert_close(weights, torch.from_numpy(expected), rtol=1e-10, atol=0)


def test_all_rows_become_equally_long() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-0.5, 0.0]])
    judgement = RotoGrad().judge(rows)
    # At first all ratios are 1, so the common length is the mean of 5, 1 and 1/2: 13/6.
    lengths = (judgement.weights[0].unsqueeze(-1) * rows).norm(dim=-1)
    assert_close(lengths, torch.full((3,), 13 / 6))


def test_the_common_length_leans_towards_who_has_converged_least() -> None:
    gate = RotoGrad()
    gate.judge(torch.tensor([[4.0, 0.0], [0.0, 4.0]]))
    # Ratios 3/4 and 1/4 are the alphas: C = 3/4 * 3 + 1/4 * 1 = 5/2.
    direction = gate.combine(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    assert_close(direction, torch.tensor([2.5, 2.5]))


def test_a_row_that_appears_later_has_its_first_length_then() -> None:
    gate = RotoGrad()
    gate.judge(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    gate.judge(torch.tensor([[1.0, 0.0], [0.0, 6.0]]))
    # Ratios 1/2 and 3/6 = 1/2: C = (1 + 3) / 2.
    assert_close(gate.combine(torch.tensor([[1.0, 0.0], [0.0, 3.0]])), torch.tensor([2.0, 2.0]))


def test_a_row_that_has_vanished_when_the_burn_in_is_over_keeps_its_first_length() -> None:
    gate = RotoGrad(burn_in=1)
    gate.judge(torch.tensor([[2.0, 0.0], [0.0, 6.0]]))
    gate.judge(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    # Ratios 1/1, taken anew, and 3/6, as it was: alphas 2/3 and 1/3, C = (2 * 1 + 3) / 3.
    expected = torch.full((2,), 5 / 3)
    assert_close(gate.combine(torch.tensor([[1.0, 0.0], [0.0, 3.0]])), expected)


def test_without_homogenising_it_is_the_sum() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert torch.equal(RotoGrad(homogenise=False).combine(rows), rows.sum(0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pace": 0.0}, r"pace must be above 0 and at most 1, .*, not 0\.0\.$"),
        ({"pace": 2.0}, "pace must be above 0 and at most 1"),
        ({"decay": 1.1}, r"decay must be above 0 and at most 1, not 1\.1\.$"),
        ({"block": 1}, r"block must be 0 \(all features\) or at least 2, .*, not 1\.$"),
        ({"block": -2}, "block must be 0"),
        ({"burn_in": -1}, r"burn_in must be 0 or more, not -1\.$"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RotoGradConfig(**options)  # type: ignore[arg-type]
