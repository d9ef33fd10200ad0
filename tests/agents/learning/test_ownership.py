import pytest
from torch import nn

from agents.heads import AuxiliaryHead
from agents.learning.views import Ownership
from agents.networks.recurrent import GRU


class Head(AuxiliaryHead):
    """Trains the parts it is told to, and owns a layer."""

    def __init__(self, *trains):
        super().__init__()
        self.trains = trains
        self.probe = nn.Linear(5, 1)

    def forward(self, agent, output, trajectory, targets):
        raise NotImplementedError


@pytest.fixture
def agent(build_agent, catch):
    return build_agent(catch.spec)


def names_and_private(agent, **heads):
    owned = Ownership.of(agent, heads)
    shared, private = owned.shared, owned.private
    named = dict(agent.named_parameters())
    assert all(parameter is named[name] for name, parameter in shared.items())
    return {name.split(".")[0] for name in shared}, {id(p) for p in private}


def identities(*modules):
    return {id(parameter) for module in modules for parameter in module.parameters()}


def test_without_heads_nothing_is_shared(agent):
    assert names_and_private(agent) == (set(), identities(agent))


def test_shared_is_what_a_head_trains_and_private_all_the_rest(agent):
    head = Head("torso")
    private = identities(agent.policy, agent.value, head)
    assert names_and_private(agent, aux=head) == ({"torso"}, private)


def test_what_any_head_trains_is_shared(agent):
    first, second = Head("torso"), Head("torso", "core", "policy")
    private = identities(agent.value, first, second)
    assert names_and_private(agent, a=first, b=second) == ({"torso", "policy"}, private)


def test_a_recurrent_core_is_shared_where_a_head_trains_it(agent):
    agent.core = GRU(5, 3)
    shared, _ = names_and_private(agent, aux=Head("torso", "core"))
    assert shared == {"torso", "core"}
    shared, private = names_and_private(agent, aux=Head("torso"))
    assert shared == {"torso"}
    assert identities(agent.core) <= private
