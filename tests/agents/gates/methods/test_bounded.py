"""The bounded gate against its formula written out in NumPy, and its promises one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates import diagnose, make
from agents.gates.methods.bounded import Bounded
from agents.gates.methods.projection import Projection

seeds = st.integers(0, 1000)


def drawn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ground_truth(sequence: np.ndarray, kappa: float, decay: float) -> np.ndarray:
    """Is slow and close to the formula: project, add up, shorten."""
    directions, average = [], sequence[0, 0]
    for rows in sequence:
        main = rows[0]
        average = decay * average + (1 - decay) * main
        total = np.zeros_like(main)
        for auxiliary in rows[1:]:
            against = min(0.0, average @ auxiliary) / (average @ average)
            total += auxiliary - against * average
        longest = kappa * np.sqrt(average @ average)
        directions.append(main + min(1.0, longest / np.sqrt(total @ total)) * total)
    return np.stack(directions)


@settings(deadline=None, max_examples=15)
@given(
    seed=seeds,
    num_losses=st.integers(2, 4),
    kappa=st.sampled_from([0.1, 0.5, 2.0]),
    decay=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_it_follows_its_formula(seed: int, num_losses: int, kappa: float, decay: float) -> None:
    sequence = drawn(seed, 6, num_losses, 5)
    gate = Bounded(kappa, decay)
    directions = torch.stack([gate.combine(rows) for rows in sequence]).numpy()
    np.testing.assert_allclose(directions, ground_truth(sequence.numpy(), kappa, decay))


def test_hand_computed_weights() -> None:
    # (-3, 4) leaves (0, 4), twice as long as g = (2, 0): half of it passes with kappa 1.
    rows = torch.tensor([[2.0, 0.0], [-3.0, 4.0]])
    gate = Bounded(kappa=1.0, decay=0.0)
    judgement = gate.judge(rows)
    assert_close(judgement.direction, torch.tensor([2.0, 2.0]))
    assert_close(judgement.weights, torch.tensor([[1.75, 0.5]]))
    # 2 of the 5 of its length.
    assert_close(diagnose(gate, judgement).passed, torch.tensor([0.4]))


def test_auxiliaries_that_cancel_out_are_not_shortened() -> None:
    # Each is longer than allowed; their sum (0, 0.5) is not.
    rows = torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.0, -8.5]])
    assert_close(Bounded(0.5, 0.0).combine(rows), torch.tensor([1.0, 0.5]))


@settings(deadline=None, max_examples=15)
@given(
    seed=seeds,
    exponent=st.integers(-8, 8),
    kappa=st.sampled_from([0.05, 1.0, 3.0]),
    decay=st.sampled_from([0.0, 0.9]),
)
def test_what_passes_is_short_and_does_not_oppose_the_average(
    seed: int, exponent: int, kappa: float, decay: float
) -> None:
    gate = Bounded(kappa, decay)
    for step in range(3):
        rows = drawn(seed + step, 3, 5).float()
        rows[1:] *= 10.0**exponent
        added = gate.combine(rows) - rows[0]
        average = gate.average[0] if decay else rows[0]
        assert added.norm() <= kappa * average.norm() * (1 + 1e-3) + 1e-6
        assert added @ average >= -1e-5 * (1 + added.norm()) * average.norm()


@settings(deadline=None, max_examples=20)
@given(
    seed=seeds,
    num_losses=st.integers(2, 4),
    kappa=st.sampled_from([0.25, 1.0, 3.0]),
    exponent=st.integers(-2, 2),
)
def test_a_step_descends_as_far_as_the_theorem_says(
    seed: int, num_losses: int, kappa: float, exponent: int
) -> None:
    # A quadratic bowl with curvatures from 0 to L = 2, where the theorem's step is 1 / L(1 + k^2).
    curvature = torch.linspace(0.0, 2.0, 6, dtype=torch.float64)
    place = drawn(seed, 6)

    def loss(at: Tensor) -> Tensor:
        return 0.5 * (curvature * at.square()).sum()

    main = curvature * place
    auxiliaries = 10.0**exponent * drawn(seed + 1, num_losses - 1, 6)
    direction = Bounded(kappa, decay=0.0).combine(torch.stack([main, *auxiliaries]))
    step = 1 / (2.0 * (1 + kappa**2))
    fall = loss(place) - loss(place - step * direction)
    assert fall >= step / 2 * main @ main * (1 - 1e-9)


def test_the_theorem_is_tight() -> None:
    # An orthogonal auxiliary of the greatest length, in a direction as steep as the main one.
    rows = torch.tensor([[2.0, 0.0], [0.0, 100.0]])
    direction = Bounded(kappa=1.0, decay=0.0).combine(rows)
    step = 1 / (2.0 * 2)
    # L = 2: place (1, 0), loss x^2 + y^2.
    after = torch.tensor([1.0, 0.0]) - step * direction
    assert_close(1.0 - after.square().sum(), torch.tensor(step / 2 * 4.0))


@settings(deadline=None, max_examples=15)
@given(seed=seeds, kappa=st.sampled_from([0.25, 1.0, 3.0]))
def test_with_an_average_it_opposes_the_main_gradient_no_more_than_stated(
    seed: int, kappa: float
) -> None:
    gate = Bounded(kappa, 0.8)
    for step in range(4):
        rows = drawn(seed + step, 3, 4)
        main, direction = rows[0], gate.combine(rows)
        average = gate.average[0]
        cosine = main @ average / main.norm() / average.norm()
        sine = (1 - cosine.clamp(0.0, 1.0).square()).sqrt()
        least = main @ main - kappa * average.norm() * main.norm() * sine
        assert main @ direction >= least - 1e-9


@settings(deadline=None, max_examples=10)
@given(seed=seeds, decay=st.sampled_from([0.0, 0.9]))
def test_without_a_bound_it_is_the_projection(seed: int, decay: float) -> None:
    one, other = Bounded(float("inf"), decay), Projection(decay)
    for step in range(3):
        rows = drawn(seed + step, 3, 6)
        assert_close(one.combine(rows), other.combine(rows))


@settings(deadline=None, max_examples=20)
@given(seed=seeds, exponent=st.integers(0, 6))
def test_a_longer_auxiliary_gets_no_further(seed: int, exponent: int) -> None:
    rows = drawn(seed, 2, 6)
    rows[1] *= 10.0
    scaled = torch.stack([rows[0], 10.0**exponent * rows[1]])
    assert_close(Bounded(0.5).combine(scaled), Bounded(0.5).combine(rows))


def test_auxiliaries_are_dropped_until_there_is_an_average() -> None:
    gate = Bounded(1.0, 0.5)
    silent = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert gate.combine(silent).tolist() == [0.0, 0.0]
    gate.judge(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    # The average lasts: of (3, 4) as much as 2.
    assert_close(gate.combine(silent), torch.tensor([1.2, 1.6]))


def test_options_out_of_range_are_refused() -> None:
    for options, sentence in (
        ({"kappa": 0.0}, "kappa must be above 0, not 0.0"),
        ({"kappa": float("nan")}, "kappa must be finite, not nan"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), not 1.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make("bounded", **options)
