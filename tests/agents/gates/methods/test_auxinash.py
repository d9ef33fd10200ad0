"""AuxiNash against its own equation; its derivative by the preferences against differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates.methods.nash import AuxiNash, AuxiNashConfig, Nash


def random_rows(seed: int, num_losses: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_losses, 9, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), main=st.sampled_from([0.9998, 0.7, 0.1, 1e-4]))
def test_every_loss_gains_its_preference(seed: int, main: float) -> None:
    rows = random_rows(seed, 3)
    preference = (main, (1 - main) / 2, (1 - main) / 2)
    judgement = AuxiNash(preference).judge(rows)
    gains = judgement.weights[0] * (rows @ judgement.direction)
    assert_close(gains, torch.tensor(preference, dtype=torch.float64), atol=1e-10, rtol=0)
    assert_close(judgement.direction.norm(), torch.tensor(1.0).double())


def test_equal_preferences_give_nash_over_the_root_of_their_number() -> None:
    rows = random_rows(0, 4)
    expected = Nash().combine(rows) / 2
    assert_close(AuxiNash().combine(rows), expected)
    assert_close(AuxiNash((0.25,) * 4).combine(rows), expected)


def test_a_preferred_loss_gains_more() -> None:
    rows = random_rows(0, 3)
    gains = [
        float(rows[0] @ AuxiNash((main, 1 - main - 0.1, 0.1)).combine(rows))
        for main in (0.1, 0.5, 0.8)
    ]
    assert gains == sorted(gains)


def test_where_a_row_vanishes_the_others_share_its_preference() -> None:
    rows = random_rows(0, 2)
    padded = torch.stack([rows[0], torch.zeros(9).double(), rows[1]])
    expected = AuxiNash((0.75, 0.25)).combine(rows)
    assert_close(AuxiNash((0.6, 0.2, 0.2)).combine(padded), expected)


def test_the_sensitivity_is_the_difference_that_a_small_change_of_preference_makes() -> None:
    rows = random_rows(0, 4) * torch.tensor([[1.0], [100.0], [0.01], [0.0]])
    gate = AuxiNash((0.4, 0.3, 0.2, 0.1))
    judgement = gate.judge(rows, groups=(5, 4))
    found = gate.sensitivity(judgement.gramian, judgement.weights)
    assert found.shape == (2, 4, 4)
    # The formula of the paper, on the raw Gram matrix of the rows that have not vanished.
    preference = torch.tensor([0.4, 0.3, 0.2], dtype=torch.float64) / 0.9
    for block, weights, change in zip(
        rows.split([5, 4], -1), judgement.weights, found, strict=True
    ):
        a = weights[:3]
        system = block[:3] @ block[:3].T + torch.diag(preference / a**2)
        assert_close(change[:3, :3], torch.linalg.inv(system) @ torch.diag(1 / a))
        assert change[3].tolist() == [0.0] * 4
        assert change[:, 3].tolist() == [0.0] * 4


def test_the_preference_may_be_written_and_is_checkpointed() -> None:
    gate, rows = AuxiNash((0.5, 0.3, 0.2)), random_rows(0, 3)
    gate.preference.copy_(torch.tensor([0.2, 0.3, 0.5]))
    assert_close(gate.combine(rows), AuxiNash((0.2, 0.3, 0.5)).combine(rows), atol=1e-6, rtol=0)
    fresh = AuxiNash()
    fresh.load_state_dict(gate.state_dict())
    assert torch.equal(fresh.combine(rows), gate.combine(rows))


def test_preferences_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"preference must sum to 1, not to 1\.1"):
        AuxiNashConfig(preference=(0.6, 0.5))
    with pytest.raises(ValueError, match="preference must sum to 1, not to nan"):
        AuxiNashConfig(preference=(float("nan"), 0.5))
    with pytest.raises(ValueError, match=r"preference must be at least 0\.0001, not -0\.5"):
        AuxiNashConfig(preference=(1.5, -0.5))
    with pytest.raises(ValueError, match="preference must name 3 numbers, one per loss"):
        AuxiNash((0.5, 0.5)).judge(torch.randn(3, 5))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"learn_every": -1}, r"learn_every must be 0 \(never\) or more, not -1\.$"),
        ({"learn_every": 2, "learn_rate": 0.0}, r"learn_rate must be above 0 and finite, not 0"),
        ({"learn_every": 2, "learn_terms": -1}, r"learn_terms must be 0 or more, not -1\.$"),
        ({"learn_rate": 0.1}, "no effect on a preference that is not learnt: add a positive learn"),
        ({"learn_terms": 0}, "no effect on a preference that is not learnt: add a positive learn"),
    ],
)
def test_options_of_learning_that_make_no_sense_are_refused(
    options: dict[str, float], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        AuxiNashConfig(**options)  # type: ignore[arg-type]


def test_only_a_learnt_preference_needs_a_network() -> None:
    assert AuxiNashConfig(learn_every=25).build().needs_network
    assert not AuxiNashConfig().build().needs_network
