"""ATTITTUD against its Algorithm 1, with NumPy's orthonormal basis."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates.methods.attittud import Attittud, AttittudConfig
from agents.gates.methods.projection import Projection

Eta = tuple[float, float, float]


def random_rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ground_truth(rows: Tensor, samples: Tensor, main: Tensor, eta: Eta) -> Tensor:
    """Is slow and close to the paper; signs of basis vectors do not matter."""
    basis = np.linalg.qr(samples.numpy().T)[0].T
    direction = rows[0].numpy().copy()
    for auxiliary in rows[1:].numpy():
        p_main, p_auxiliary = basis @ main.numpy(), basis @ auxiliary
        helps = p_main * p_auxiliary >= 0
        plus, minus = basis.T @ (p_auxiliary * helps), basis.T @ (p_auxiliary * ~helps)
        outside = auxiliary - plus - minus
        direction += eta[0] * outside + eta[1] * plus + eta[2] * minus
    return torch.from_numpy(direction)


ETAS: list[Eta] = [
    (1.0, 1.0, 0.0),
    (1.0, 1.0, -1.0),
    (1.0, 0.0, 0.0),
    (1.0, 0.0, -1.0),
    (0.3, 2.0, -0.5),
]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), eta=st.sampled_from(ETAS), rank=st.integers(1, 4))
def test_it_follows_algorithm_1(seed: int, eta: Eta, rank: int) -> None:
    rows, samples = random_rows(seed, 3, 9), random_rows(seed + 1, rank, 9)
    found = Attittud(eta, rank).combine(rows, samples=samples)
    assert_close(found, ground_truth(rows, samples, rows[0], eta), atol=1e-10, rtol=1e-10)


def test_a_fresh_main_gradient_decides_the_signs() -> None:
    rows, samples, fresh = random_rows(0, 3, 9), random_rows(1, 4, 9), random_rows(2, 1, 9)
    gate = Attittud((1.0, 1.0, -1.0), rank=4, fresh=True)
    found = gate.combine(rows, samples=torch.cat([samples, fresh]))
    assert_close(found, ground_truth(rows, samples, fresh[0], (1.0, 1.0, -1.0)))
    assert not torch.allclose(found, ground_truth(rows, samples, rows[0], (1.0, 1.0, -1.0)))


def test_with_a_new_basis_at_every_judgement_the_columns_may_be_others() -> None:
    # As at features, which are those of a minibatch: one may have an environment more.
    gate = Attittud(rank=2, refresh=1)
    for columns in (9, 6, 9):
        rows, samples = random_rows(0, 2, columns), random_rows(1, 2, columns)
        expected = Attittud(rank=2, refresh=3).combine(rows, samples=samples)
        assert_close(gate.combine(rows, samples=samples), expected, rtol=0, atol=0)


def test_between_refreshes_the_old_basis_serves_also_after_a_restart() -> None:
    gate, samples = Attittud(rank=2, refresh=3), random_rows(1, 2, 9)
    gate.judge(random_rows(0, 3, 9), samples=samples)
    fresh = Attittud(rank=2, refresh=3)
    fresh.load_state_dict(gate.state_dict())
    rows = random_rows(2, 3, 9)
    expected = ground_truth(rows, samples, rows[0], (1.0, 1.0, 0.0))
    assert_close(gate.combine(rows), expected)
    assert_close(fresh.combine(rows), expected)


def test_equal_weights_are_the_sum() -> None:
    rows = random_rows(0, 3, 9)
    found = Attittud((1.0, 1.0, 1.0)).combine(rows, samples=random_rows(1, 5, 9))
    assert_close(found, rows.sum(0))


def test_with_the_main_gradient_alone_as_subspace_it_is_the_projection() -> None:
    rows = random_rows(0, 4, 9)
    assert_close(Attittud(rank=1).combine(rows, samples=rows[:1]), Projection().combine(rows))


def test_a_subspace_with_the_main_gradient_in_it_lets_no_auxiliary_hurt() -> None:
    samples = random_rows(1, 4, 9)
    for seed in range(20):
        rows = random_rows(seed, 3, 9)
        rows[0] = samples.sum(0)
        direction = Attittud(rank=4).combine(rows, samples=samples)
        assert rows[0] @ direction >= rows[0] @ rows[0] * (1 - 1e-9)


def test_each_group_has_a_basis_of_its_own() -> None:
    rows, samples, groups = random_rows(0, 3, 9), random_rows(1, 3, 9), [5, 4]
    expected = [
        ground_truth(row, sample, row[0], (1.0, 1.0, 0.0))
        for row, sample in zip(rows.split(groups, -1), samples.split(groups, -1), strict=True)
    ]
    found = Attittud(rank=3).combine(rows, groups=groups, samples=samples)
    assert_close(found, torch.cat(expected))


@pytest.mark.parametrize("main", [0.0, float("nan")])
def test_auxiliaries_pass_where_the_main_gradient_vanishes_or_is_not_finite(main: float) -> None:
    rows, samples = random_rows(0, 2, 9), random_rows(1, 5, 9)
    rows[0] = main
    assert_close(Attittud().combine(rows, samples=samples), rows[1])


def test_samples_that_say_nothing_leave_auxiliaries_as_they_are() -> None:
    rows = random_rows(0, 3, 9)
    samples = torch.full((5, 9), torch.nan).double()
    assert_close(Attittud((1.0, 0.0, 0.0)).combine(rows, samples=samples), rows.sum(0))


def test_samples_that_are_missing_are_asked_for() -> None:
    rows = random_rows(0, 3, 9)
    with pytest.raises(ValueError, match="Attittud needs 5 rows of samples at its first"):
        Attittud().judge(rows)
    with pytest.raises(ValueError, match=r"Attittud needs 5 rows of samples: give"):
        Attittud(refresh=1).judge(rows)
    with pytest.raises(ValueError, match="Attittud needs 6 rows of samples, not 5"):
        Attittud(fresh=True).judge(rows, samples=random_rows(1, 5, 9))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="eta must be three finite numbers"):
        AttittudConfig(eta=(1.0, 1.0, float("inf")))
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        AttittudConfig(rank=0)
    with pytest.raises(ValueError, match="refresh must be at least 1, not 0"):
        AttittudConfig(refresh=0)
