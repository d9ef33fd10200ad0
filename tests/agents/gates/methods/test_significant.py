"""The gate that knows its own uncertainty, against sums by hand and by definition."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates import make
from agents.gates.methods.significant import Significant, off_diagonal_mean


def judged(gate: Significant, slices: Tensor) -> list[float]:
    """The weights of the auxiliaries, from rows [S, L, P] of the slices."""
    weights: list[float] = gate.judge(slices.sum(0), slices=slices).weights[0, 1:].tolist()
    return weights


def drawn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def hand_made(sign: float = 1.0) -> Tensor:
    """Three slices: g = 1, 2, 3 and h = 2, -1, 1 along the first axis, h 0.5 along the other."""
    main = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    auxiliary = sign * torch.tensor([[2.0, 0.5], [-1.0, 0.5], [1.0, 0.5]])
    return torch.stack([main, auxiliary], dim=1)


def test_hand_computed_estimate_and_error() -> None:
    # <g_i, h_j>: off the diagonal -1 + 1 + 4 + 2 + 6 - 3 = 9, in six entries.  Without the first
    # slice 2 - 3, without the second 1 + 6, without the third -1 + 4; halved: -0.5, 3.5, 1.5.
    # The jackknife's variance is 2/3 (2^2 + 2^2 + 0^2).
    main, auxiliary = hand_made().unbind(1)
    estimate, error = off_diagonal_mean(main @ auxiliary.mT)
    assert_close(estimate, torch.tensor(1.5))
    assert_close(error, torch.tensor((16 / 3) ** 0.5))


# 1.5 is 0.65 standard errors: known at a nominal confidence of 0.48 at most.
@pytest.mark.parametrize(
    ("confidence", "sign", "weight"),
    [(0.45, 1.0, 0.8), (0.45, -1.0, 0.0), (0.52, 1.0, 0.3), (0.52, -1.0, 0.3)],
)
def test_hand_computed_weights(confidence: float, sign: float, weight: float) -> None:
    # g = (6, 0), h = (2, 1.5): the cosine is 0.8.
    gate = Significant(slices=3, confidence=confidence, unknown=0.3)
    assert judged(gate, hand_made(sign)) == pytest.approx([weight])
    judgement = gate.judge(hand_made(sign).sum(0), slices=hand_made(sign))
    assert gate.notes(judgement.gramian)["known"].tolist() == [float(confidence < 0.48)]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(3, 6))
def test_estimate_and_error_follow_their_definition(seed: int, count: int) -> None:
    products = drawn(seed, count, count)

    def mean(chosen: list[int]) -> float:
        pairs = list(permutations(chosen, 2))
        return sum(float(products[i, j]) for i, j in pairs) / len(pairs)

    everyone = list(range(count))
    without = [mean([i for i in everyone if i != left]) for left in everyone]
    centre = sum(without) / count
    variance = (count - 1) / count * sum((each - centre) ** 2 for each in without)
    estimate, error = off_diagonal_mean(products)
    assert_close(float(estimate), mean(everyone))
    assert_close(float(error), variance**0.5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), num_auxiliaries=st.integers(1, 3))
def test_slices_that_agree_make_it_the_cosine_gate(seed: int, num_auxiliaries: int) -> None:
    rows = drawn(seed, 1 + num_auxiliaries, 7)
    slices = (rows / 4).expand(4, -1, -1)
    expected = make("cosine").judge(rows).direction
    assert_close(Significant(unknown=0.5).judge(rows, slices=slices).direction, expected)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)), exponent=st.integers(-12, 12))
def test_neither_the_order_of_slices_nor_the_scale_of_a_row_matters(
    seed: int, order: list[int], exponent: int
) -> None:
    slices = drawn(seed, 4, 3, 5) + drawn(seed + 1, 1, 3, 5)
    gate = Significant(confidence=0.5, unknown=0.5)
    scaled = slices[order] * torch.tensor([10.0**exponent, 1.0, 10.0**-exponent])[:, None]
    assert judged(gate, scaled) == pytest.approx(judged(gate, slices))


def test_noise_that_two_losses_share_opens_the_cosine_gate_and_not_this_one() -> None:
    # Main and auxiliary have nothing to do with each other but the noise of their common data.
    noise = drawn(0, 300, 4, 1, 50)
    slices = 0.8 * noise + 0.6 * drawn(1, 300, 4, 2, 50)
    cosine = make("cosine").judge(slices.sum(1)).weights[:, 0, 1]
    assert (cosine > 0.3).all()
    gate = Significant(confidence=0.9)
    known = gate.notes(gate.judge(slices.sum(1), slices=slices).gramian)["known"]
    # Nominally one in ten is taken for known by mistake.
    assert known.mean() < 0.15


@pytest.mark.parametrize(("sign", "expected"), [(1.0, "positive"), (-1.0, "zero")])
def test_what_is_in_every_slice_is_known(sign: float, expected: str) -> None:
    common = drawn(0, 1, 1, 1, 50)
    slices = torch.cat([common, sign * common], 2) + 0.5 * drawn(1, 300, 4, 2, 50)
    weights = Significant().judge(slices.sum(1), slices=slices).weights[:, 0, 1]
    right = (weights > 0) & (weights < 1) if expected == "positive" else weights == 0
    assert right.all()


def test_where_a_gradient_vanishes_nothing_is_known() -> None:
    slices = drawn(0, 4, 2, 5)
    slices[:, 0] = 0.0
    assert judged(Significant(unknown=0.7), slices) == [0.7]


def test_options_out_of_range_are_refused() -> None:
    for options, sentence in (
        ({"slices": 2}, "slices must be at least 3, not 2"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1, not 1.0"),
        ({"confidence": 0.0}, "confidence must be between 0 and 1, not 0.0"),
        ({"unknown": -0.1}, "unknown must be from 0 to 1, not -0.1"),
        ({"unknown": float("nan")}, "unknown must be finite, not nan"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make("significant", **options)
