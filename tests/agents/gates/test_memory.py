"""Buffers that take their shape from what they first meet."""

import pytest
import torch

from agents.gates.base import recall


def test_it_starts_at_the_fill_in_the_shape_and_dtype_that_is_needed() -> None:
    memory = recall(torch.empty(0), torch.zeros(2, 3, dtype=torch.float64), fill=1.0)
    assert memory.tolist() == [[1.0] * 3] * 2
    assert memory.dtype == torch.float64


def test_it_is_the_same_tensor_from_then_on() -> None:
    memory = torch.randn(2, 3)
    assert recall(memory, torch.zeros(2, 3)) is memory


def test_it_is_widened_again_after_the_model_around_it_was_narrowed() -> None:
    memory = recall(torch.ones(2, dtype=torch.bfloat16), torch.zeros(2))
    assert memory.dtype == torch.float32
    assert memory.tolist() == [1.0, 1.0]


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"remembers numbers of shape \[2\], not \[3\]"):
        recall(torch.ones(2), torch.zeros(3))
