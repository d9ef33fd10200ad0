"""What is logged of a judgement."""

import pytest
import torch
from torch.testing import assert_close

from agents.gates import diagnose, gated_backward, main_cosine, make
from agents.gates.base import Gate


def test_hand_computed_numbers_of_the_cosine_gate() -> None:
    gate = make("cosine")
    # cos((2, 0), (3, 4)) = 3/5 and |h| / |g| = 5/2; (-1, 1) is blocked, |h| / |g| = sqrt(2)/2.
    diagnosis = diagnose(gate, gate.judge(torch.tensor([[2.0, 0.0], [3.0, 4.0], [-1.0, 1.0]])))
    assert_close(diagnosis.cosine, torch.tensor([0.6, -(0.5**0.5)]))
    assert_close(diagnosis.weight, torch.tensor([0.6, 0.0]))
    assert_close(diagnosis.passed, torch.tensor([0.6, 0.0]))
    assert diagnosis.open.tolist() == [1.0, 0.0]
    assert_close(diagnosis.norm_ratio, torch.tensor([2.5, 0.5**0.5]))


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_what_passes_a_projection_is_the_length_that_is_left(decay: float) -> None:
    gate = make("projection", decay=decay)
    # (-3, 4) of length 5 keeps (0, 4); (3, 4) passes whole.
    diagnosis = diagnose(gate, gate.judge(torch.tensor([[2.0, 0.0], [-3.0, 4.0], [3.0, 4.0]])))
    assert_close(diagnosis.passed, torch.tensor([0.8, 1.0]))
    assert_close(diagnosis.cosine, torch.tensor([-0.6, 0.6]))
    assert diagnosis.weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["cosine", "projection", "orthogonal"])
def test_passed_is_the_size_of_what_was_added(name: str) -> None:
    rows, gate = torch.randn(2, 9, dtype=torch.float64), make(name)
    judgement = gate.judge(rows, groups=(4, 3, 2))
    added = judgement.direction - rows[0]
    passed = diagnose(gate, judgement).passed
    assert_close(passed, (added.norm() / rows[1].norm())[None])


def test_the_cosine_is_over_all_groups_together() -> None:
    rows, gate = torch.randn(3, 9, dtype=torch.float64), make("cosine")
    together = diagnose(gate, gate.judge(rows)).cosine
    assert_close(diagnose(gate, gate.judge(rows, groups=(4, 3, 2))).cosine, together)


def test_the_weight_is_the_mean_over_groups_by_norm() -> None:
    gate = make("cosine_unweighted")
    # Open in the first group, where |h| = 3; closed in the second, where |h| = 1.
    judgement = gate.judge(torch.tensor([[1.0, 1.0], [3.0, -1.0]]), groups=(1, 1))
    assert_close(diagnose(gate, judgement).weight, torch.tensor([0.75]))


@pytest.mark.parametrize("name", ["sum", "cosine", "projection", "orthogonal"])
def test_a_vanished_auxiliary_has_zero_everywhere(name: str) -> None:
    gate = make(name)
    diagnosis = diagnose(gate, gate.judge(torch.stack([torch.ones(5), torch.zeros(5)])))
    for value in vars(diagnosis).values():
        assert value.tolist() == [0.0]


def test_a_vanished_main_gradient_gives_a_ratio_of_zero() -> None:
    gate = make("sum", measure=True)
    diagnosis = diagnose(gate, gate.judge(torch.stack([torch.zeros(5), torch.ones(5)])))
    assert diagnosis.norm_ratio.tolist() == [0.0]
    assert diagnosis.cosine.tolist() == [0.0]
    assert_close(diagnosis.passed, torch.ones(1))


def unmeasured(gate: Gate, num_losses: int) -> dict[str, torch.Tensor]:
    parameter = torch.ones(3, requires_grad=True)
    losses = [parameter.sum() * (index + 1.0) for index in range(num_losses)]
    return vars(diagnose(gate, gated_backward(losses, gate, [parameter])))


def test_what_was_not_measured_is_nan() -> None:
    values = unmeasured(make("sum"), 3)
    for name in ("weight", "passed", "open"):
        assert values[name].tolist() == [1.0, 1.0], name
    for name in ("cosine", "norm_ratio"):
        assert values[name].isnan().tolist() == [True, True], name


@pytest.mark.parametrize("gate", [make("cosine"), make("projection", decay=0.9)])
def test_without_auxiliaries_there_is_nothing_to_report(gate: Gate) -> None:
    assert all(value.shape == (0,) for value in unmeasured(gate, 1).values())


def test_the_main_cosine_is_over_all_columns_and_0_where_there_is_none() -> None:
    rows = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 0.0], [torch.nan, 1.0]])
    assert_close(main_cosine(rows), torch.tensor([0.6, 0.0, 0.0]))
    assert_close(main_cosine(torch.stack([rows, -rows])), torch.tensor([[0.6, 0.0, 0.0]] * 2))


def test_a_leading_batch_is_diagnosed_entry_by_entry() -> None:
    rows, gate = torch.randn(4, 3, 9), make("projection")
    batched = diagnose(gate, gate.judge(rows, groups=(5, 4)))
    for index in range(4):
        alone = diagnose(gate, gate.judge(rows[index], groups=(5, 4)))
        for name, value in vars(alone).items():
            assert_close(getattr(batched, name)[index], value)


def test_huge_and_tiny_gradients_are_in_range() -> None:
    gate = make("projection")
    rows = torch.tensor([[2.0, 0.0], [-3.0, 4.0]])
    for scale in (1e-25, 1e25):
        diagnosis = diagnose(gate, gate.judge(scale * rows))
        assert_close(diagnosis.passed, torch.tensor([0.8]))
        assert_close(diagnosis.norm_ratio, torch.tensor([2.5]))
