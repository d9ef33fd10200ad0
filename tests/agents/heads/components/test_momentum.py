import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.heads.components.views import MomentumCopy
from agents.networks.torsos import ImpalaConfig, MlpConfig, NatureConfig

TORSOS = {
    "nature": (lambda: NatureConfig(width=5).build((2, 36, 36)), (2, 36, 36)),
    "impala": (lambda: ImpalaConfig(channels=(4,), width=5).build((2, 8, 8)), (2, 8, 8)),
    "symbols": (lambda: MlpConfig(widths=(7, 5)).build((3, 3), num_symbols=4), (3, 3)),
}


@pytest.fixture
def source():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def shift(module, by):
    """Adds a number to all of a module's parameters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by


def test_a_copy_keeps_momentum_of_itself_and_takes_the_rest(source):
    copy = MomentumCopy(source, momentum=0.75)
    before = source[0].weight.detach().clone()
    shift(source, 8.0)
    copy.follow(source)
    # 0.75 w + 0.25 (w + 8) = w + 2.
    assert_close(copy.network[0].weight, before + 2.0)
    copy.follow(source)
    # 0.75 (w + 2) + 0.25 (w + 8) = w + 3.5.
    assert_close(copy.network[0].weight, before + 3.5)


def test_without_momentum_a_copy_equals_its_source_and_with_all_of_it_it_never_moves(source):
    equal, still = MomentumCopy(source, 0.0), MomentumCopy(source, 1.0)
    before = source[2].bias.detach().clone()
    shift(source, 0.37)
    equal.follow(source)
    still.follow(source)
    assert torch.equal(equal.network[2].bias, source[2].bias)
    assert torch.equal(still.network[2].bias, before)


@pytest.mark.parametrize("name", TORSOS)
def test_every_torso_can_be_copied(name):
    build, shape = TORSOS[name]
    torso = build()
    observation = torch.randint(4, (3, *shape), dtype=torch.uint8)
    seen = MomentumCopy(torso, 0.9)(observation)
    assert torch.equal(seen.features, torso(observation).features)
    assert not seen.features.requires_grad


def test_a_copy_has_nothing_to_train_and_shares_nothing_with_its_source(source):
    copy = MomentumCopy(source, 0.9)
    assert list(copy.parameters()) == []
    assert len(list(copy.buffers())) == 4
    before = copy(torch.ones(1, 3))
    shift(source, 1.0)
    assert torch.equal(copy(torch.ones(1, 3)), before)
    assert all(parameter.requires_grad for parameter in source.parameters())


def test_what_a_network_counts_for_itself_is_copied_as_it_is():
    source = nn.BatchNorm1d(2)
    copy = MomentumCopy(source, 0.9)
    source(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    copy.follow(source)
    assert torch.equal(copy.network.running_mean, source.running_mean)
    assert copy.network.num_batches_tracked == 1
    assert not copy.network.training


def test_a_copy_is_saved_and_goes_on_from_where_it_was(source):
    copy = MomentumCopy(source, 0.9)
    shift(source, 1.0)
    copy.follow(source)
    saved = {name: tensor.clone() for name, tensor in copy.state_dict().items()}
    other = MomentumCopy(source, 0.9)
    other.load_state_dict(saved)
    shift(source, 1.0)
    for each in (copy, other):
        each.follow(source)
    assert_close(copy.state_dict(), other.state_dict(), rtol=0, atol=0)
