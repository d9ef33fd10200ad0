"""Scopes: the blocks of columns that are judged apart."""

import pytest
from torch import nn

from agents.gates.gramian import column_groups


@pytest.fixture
def model() -> nn.Sequential:
    # Named 0.weight [3, 2], 0.bias [3], 2.weight [4, 3], 2.bias [4].
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))


def test_shared_is_one_block(model: nn.Module) -> None:
    assert column_groups("shared", model.named_parameters()) == (6 + 3 + 12 + 4,)


def test_tensor_is_one_block_per_tensor(model: nn.Module) -> None:
    assert column_groups("tensor", model.named_parameters()) == (6, 3, 12, 4)


def test_layer_joins_the_tensors_of_one_module(model: nn.Module) -> None:
    assert column_groups("layer", list(model.named_parameters())) == (6 + 3, 12 + 4)


def test_layers_of_a_nested_module_stay_apart(model: nn.Sequential) -> None:
    # torso.0.weight and torso.2.weight are not of one layer.
    nested = nn.ModuleDict({"torso": model, "policy": nn.Linear(4, 1)})
    assert column_groups("layer", nested.named_parameters()) == (6 + 3, 12 + 4, 4 + 1)


def test_an_empty_scope_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="at least one shared parameter"):
        column_groups("shared", [])
