"""The moving average that `projection` and `orthogonal` may compare with."""

import pytest
import torch
from torch import Tensor

from agents.gates.algebra import check_decay
from agents.gates.methods.projection import OrthogonalConfig, Projection, ProjectionConfig


def ground_truth(sequence: Tensor, decay: float) -> Tensor:
    """Is slow and close to Tran-Thien, Algorithm 2 (sign of line 10 put right)."""
    alpha, average, directions = 1 - decay, sequence[0, 0], []
    for step, (main, auxiliary) in enumerate(sequence):
        average = main if step == 0 else alpha * main + (1 - alpha) * average
        product = auxiliary @ average
        removed = min(0.0, float(product)) / float(average @ average) * average
        directions.append(main + auxiliary - removed)
    return torch.stack(directions)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_it_follows_algorithm_2(decay: float) -> None:
    sequence = torch.randn(20, 2, 3, dtype=torch.float64)
    gate = Projection(decay)
    directions = torch.stack([gate.combine(rows) for rows in sequence])
    torch.testing.assert_close(directions, ground_truth(sequence, decay))


def test_without_decay_it_is_algorithm_1() -> None:
    sequence = torch.randn(20, 2, 3, dtype=torch.float64)
    directions = torch.stack([Projection().combine(rows) for rows in sequence])
    torch.testing.assert_close(directions, ground_truth(sequence, 0.0))


def test_the_first_gradient_is_the_first_average() -> None:
    gate = Projection(0.75)
    gate.judge(torch.tensor([[2.0, 4.0], [1.0, 1.0]]))
    assert gate.average.tolist() == [[2.0, 4.0]]
    # 0.75 * (2, 4) + 0.25 * (6, 0)
    gate.judge(torch.tensor([[6.0, 0.0], [1.0, 1.0]]))
    assert gate.average.tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_main_gradient_that_says_nothing_does_not_enter_the_average(bad: float) -> None:
    gate = Projection(0.75)
    silent = torch.tensor([[bad, bad], [1.0, 1.0]])
    # Nothing to compare with yet: the auxiliary passes unchanged.
    assert gate.combine(silent).tolist() == [1.0, 1.0]
    gate.judge(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    assert gate.average.tolist() == [[2.0, 0.0]]
    gate.judge(silent)
    assert gate.average.tolist() == [[2.0, 0.0]]


def test_the_direction_need_not_descend_the_main_loss() -> None:
    gate = Projection(0.9)
    gate.judge(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    # The average is still (0.9, 0.1): <m, h> = 1.8 - 0.5 > 0, so h = (2, -5) passes whole.
    main = torch.tensor([0.0, 1.0])
    direction = gate.combine(torch.stack([main, torch.tensor([2.0, -5.0])]))
    assert main @ direction < 0


def test_each_entry_of_a_batch_starts_its_own_average() -> None:
    gate = Projection(0.5)
    gate.judge(torch.tensor([[[2.0], [1.0]], [[0.0], [1.0]]]))
    gate.judge(torch.tensor([[[4.0], [1.0]], [[4.0], [1.0]]]))
    assert gate.average.tolist() == [[[3.0]], [[4.0]]]


def test_memory_is_float32_for_narrow_rows_and_for_a_narrowed_model() -> None:
    gate = Projection(0.5)
    gate.judge(torch.randn(2, 5, dtype=torch.bfloat16))
    assert gate.average.dtype == torch.float32
    gate.to(torch.bfloat16)
    gate.judge(torch.randn(2, 5, dtype=torch.bfloat16))
    assert gate.average.dtype == torch.float32


def test_memory_keeps_its_place_between_judgements() -> None:
    gate = Projection(0.5)
    gate.judge(torch.randn(2, 5))
    place = gate.average.data_ptr()
    gate.judge(torch.randn(2, 5))
    assert gate.average.data_ptr() == place


@pytest.mark.parametrize("decay", [1.5, 1.0, -0.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    for config in (ProjectionConfig, OrthogonalConfig):
        with pytest.raises(ValueError, match=rf"decay must be in \[0, 1\), not {decay}\."):
            config(decay=decay)
    check_decay(0.0)
