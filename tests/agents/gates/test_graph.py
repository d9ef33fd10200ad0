"""What is found in, and refused because of, the graphs of losses."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from agents.gates import gated_backward, make, shared_parameters


class Net(nn.Module):
    """A trunk of two blocks, either of which may be checkpointed, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.heads = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 2)])

    def losses(self, block: str = "", reentrant: bool = True) -> list[Tensor]:
        data = torch.linspace(-1, 1, 15).view(5, 3)
        features = data
        for name in ("first", "second"):
            layer = getattr(self, name)
            if name != block:
                features = layer(features)
                continue
            # The block needs an input with a gradient, or it has none itself.
            features = features if features.requires_grad else features.requires_grad_()
            features = checkpoint(layer, features, use_reentrant=reentrant)
        return [head(features).square().mean() for head in self.heads]

    @property
    def trunk(self) -> list[Tensor]:
        return [*self.first.parameters(), *self.second.parameters()]

    def gradients(self) -> list[Tensor]:
        return [p.grad.clone() for p in self.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["sum", "cosine", "projection"])
@pytest.mark.parametrize("block", ["first", "second"])
def test_reentrant_checkpointing_in_the_trunk_is_refused_before_anything_is_written(
    name: str, block: str
) -> None:
    net = Net()
    with pytest.raises(ValueError, match=r"checkpointed with use_reentrant=True.*=False"):
        gated_backward(net.losses(block), make(name), net.trunk, [*net.heads.parameters()])
    assert net.gradients() == []


@pytest.mark.parametrize("name", ["sum", "cosine"])
def test_reentrant_checkpointing_in_a_head_is_refused(name: str) -> None:
    net = Net()
    features = net.second(net.first(torch.ones(5, 3)))
    main = net.heads[0](features).mean()
    auxiliary = checkpoint(net.heads[1], features, use_reentrant=True).square().mean()
    with pytest.raises(ValueError, match="use_reentrant"):
        gated_backward([main, auxiliary], make(name), net.trunk, [*net.heads.parameters()])


@pytest.mark.parametrize("block", ["first", "second"])
def test_checkpointing_that_is_not_reentrant_changes_no_gradient(block: str) -> None:
    net, other = Net(), Net()
    for each, losses in ((net, net.losses()), (other, other.losses(block, reentrant=False))):
        gated_backward(losses, make("cosine"), each.trunk, [*each.heads.parameters()])
    for one, two in zip(net.gradients(), other.gradients(), strict=True):
        assert torch.equal(one, two)


def names(net: nn.Module, found: list[Tensor]) -> set[str]:
    return {
        name for name, parameter in net.named_parameters() if any(parameter is p for p in found)
    }


def test_shared_parameters_are_those_of_the_main_loss_and_an_auxiliary() -> None:
    net = Net()
    main, auxiliary = net.losses()
    other = net.heads[1](torch.ones(4)).sum()  # reaches no trunk
    shared, private = shared_parameters([main, auxiliary, other])
    trunk = {f"{layer}.{kind}" for layer in ("first", "second") for kind in ("weight", "bias")}
    assert names(net, shared) == trunk
    assert names(net, private) == {
        f"heads.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    }
    assert len(shared) + len(private) == len([*net.parameters()])


def test_shared_parameters_leave_out_what_is_frozen_and_come_in_the_same_order() -> None:
    net = Net()
    net.first.weight.requires_grad_(False)
    found = [shared_parameters(net.losses())[0] for _ in range(2)]
    assert "first.weight" not in names(net, found[0])
    assert [id(parameter) for parameter in found[0]] == [id(p) for p in found[1]]


def test_shared_parameters_train_as_lists_by_hand_do() -> None:
    net, other = Net(), Net()
    losses = net.losses()
    gated_backward(losses, make("cosine"), *shared_parameters(losses))
    gated_backward(other.losses(), make("cosine"), other.trunk, [*other.heads.parameters()])
    for one, two in zip(net.gradients(), other.gradients(), strict=True):
        torch.testing.assert_close(one, two)


def test_shared_parameters_refuse_what_the_graph_hides() -> None:
    with pytest.raises(ValueError, match="use_reentrant"):
        shared_parameters(Net().losses("second"))


def test_a_complex_parameter_is_refused_before_anything_is_written() -> None:
    net = Net()
    twist = nn.Parameter(torch.ones(4, dtype=torch.complex64))
    features = (net.first(torch.ones(5, 3)) * twist).abs()
    losses = [head(features).square().mean() for head in net.heads]
    shared = [*net.first.parameters(), twist]
    with pytest.raises(ValueError, match=r"shared\[2\] is complex.*torch.view_as_complex"):
        gated_backward(losses, make("cosine"), shared, [*net.heads.parameters()])
    assert net.gradients() == []
    pair = nn.Parameter(torch.view_as_real(twist.detach()).clone())
    features = (net.first(torch.ones(5, 3)) * torch.view_as_complex(pair)).abs()
    losses = [head(features).square().mean() for head in net.heads]
    gated_backward(losses, make("cosine"), [*net.first.parameters(), pair])
    assert pair.grad is not None
    assert pair.grad.any()
