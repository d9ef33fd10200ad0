import pytest
import torch
from torch import nn

from agents.heads.base import NamedModules


def test_a_module_may_have_the_name_of_a_method():
    linear = nn.Linear(2, 3)
    with pytest.raises(KeyError):  # the reason for this class
        nn.ModuleDict({"forward": linear})
    modules = NamedModules({"forward": linear, "train": nn.Linear(3, 1)})
    assert modules["forward"] is linear
    assert list(modules) == ["forward", "train"]
    assert [name for name, _ in modules.named_children()] == ["forward", "train"]


def test_modules_are_saved_moved_and_set_to_training_as_ever():
    modules = NamedModules({"forward": nn.Linear(2, 3), "train": nn.Linear(3, 1)})
    names = ["forward.weight", "forward.bias", "train.weight", "train.bias"]
    assert list(modules.state_dict()) == names
    assert [name for name, _ in modules.named_parameters()] == names
    other = NamedModules({"forward": nn.Linear(2, 3), "train": nn.Linear(3, 1)})
    other.load_state_dict(modules.state_dict())
    assert torch.equal(other["train"].weight, modules["train"].weight)
    assert modules.to(torch.float64)["forward"].weight.dtype == torch.float64
    assert not modules.eval()["train"].training
