"""What a user may get wrong, and that nothing has gone backward by the time it is said."""

import pytest
import torch
from torch import Tensor, nn

from agents.gates import Gate, gated_backward, make
from agents.gates.checks import (
    check_demands,
    check_gate,
    check_groups,
    check_losses,
    check_parameters,
)


@pytest.fixture
def trunk() -> nn.Linear:
    return nn.Linear(3, 4)


@pytest.fixture
def heads() -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 2)])


@pytest.fixture
def losses(trunk: nn.Linear, heads: nn.ModuleList) -> list[Tensor]:
    features = trunk(torch.ones(5, 3))
    return [head(features).square().mean() for head in heads]


@pytest.fixture
def shared(trunk: nn.Linear) -> list[Tensor]:
    return [*trunk.parameters()]


@pytest.fixture
def private(heads: nn.ModuleList) -> list[Tensor]:
    return [*heads.parameters()]


@pytest.fixture(params=["sum", "cosine"])
def gate(request: pytest.FixtureRequest) -> Gate:
    return make(request.param)


def untouched(*groups: list[Tensor]) -> bool:
    return all(parameter.grad is None for group in groups for parameter in group)


def test_a_gate_is_not_its_name() -> None:
    with pytest.raises(ValueError, match=r"'cosine' is no gate: give one, as from make"):
        check_gate.__wrapped__("cosine")  # past the types, which only tests check


def test_a_main_loss_without_a_graph_is_refused_by_every_gate(
    losses: list[Tensor], gate: Gate, shared: list[Tensor], private: list[Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"losses\[0\], the main loss, has no graph"):
        gated_backward([losses[0].detach(), losses[1]], gate, shared, private)
    assert untouched(shared, private)


def test_losses_are_scalars(losses: list[Tensor]) -> None:
    check_losses(losses)
    with pytest.raises(ValueError, match="losses is empty: give the main loss first"):
        check_losses([])
    with pytest.raises(
        ValueError, match=r"losses\[0\] must be a scalar tensor, not of shape \[2\]"
    ):
        check_losses([losses[0].expand(2), losses[1]])
    with pytest.raises(
        ValueError, match=r"samples\[1\] must be .* not of shape \[1\]: take the mean"
    ):
        check_losses([losses[0], losses[1].view(1)], "samples")


def test_a_vector_of_losses_is_refused_before_anything_goes_backward(
    gate: Gate, losses: list[Tensor], shared: list[Tensor], private: list[Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"losses\[1\] must be a scalar"):
        gated_backward([losses[0], losses[1].view(1)], gate, shared, private)
    assert untouched(shared, private)


def test_parameters_are_there_trainable_and_named_once(
    shared: list[Tensor], private: list[Tensor]
) -> None:
    check_parameters(shared, private)
    check_parameters(shared, [])
    with pytest.raises(ValueError, match="there are no shared parameters: give those"):
        check_parameters([], private)
    frozen = torch.ones(2)
    with pytest.raises(ValueError, match=r"private\[4\] is frozen \(.*\): leave it out"):
        check_parameters(shared, [*private, frozen])
    for again in ([*shared, shared[0]], private), (shared, [*private, shared[1]]):
        with pytest.raises(ValueError, match="a parameter is named twice"):
            check_parameters(*again)


def test_whatever_can_be_gone_through_names_parameters(
    losses: list[Tensor], trunk: nn.Linear, heads: nn.ModuleList
) -> None:
    gated_backward(losses, make("cosine"), tuple(trunk.parameters()), tuple(heads.parameters()))
    assert all(
        parameter.grad is not None for parameter in (*trunk.parameters(), *heads.parameters())
    )


def test_a_main_loss_that_trains_nothing_shared_is_refused(
    losses: list[Tensor], private: list[Tensor]
) -> None:
    stranger = [torch.ones(2, requires_grad=True)]
    for main, said in (losses[0], "does not depend"), (losses[0].detach(), "has no graph"):
        with pytest.raises(ValueError, match=rf"losses\[0\], the main loss, {said}"):
            gated_backward([main, losses[1]], make("cosine"), stranger, private)
    assert untouched(stranger, private)


def test_an_auxiliary_that_trains_nothing_is_refused(
    losses: list[Tensor], shared: list[Tensor], private: list[Tensor]
) -> None:
    nowhere = torch.ones((), requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"losses\[1\] depends on none of the parameters"):
        gated_backward([losses[0], nowhere], make("cosine"), shared, private)


def test_an_auxiliary_may_train_its_own_parameters_alone(
    trunk: nn.Linear, heads: nn.ModuleList, shared: list[Tensor], private: list[Tensor]
) -> None:
    features = trunk(torch.ones(5, 3))
    losses = [heads[0](features).sum(), heads[1](features.detach()).sum()]
    judgement = gated_backward(losses, make("cosine"), shared, private)
    assert judgement.weights.tolist() == [[1.0, 0.0]]
    assert private[2].grad is not None


@pytest.mark.parametrize("groups", [(3, 3), (16, 0), (20, -4), ()])
def test_groups_add_up_to_what_is_shared(groups: tuple[int, ...]) -> None:
    check_groups(None, 16)
    check_groups((4, 12), 16)
    with pytest.raises(ValueError, match="groups must be lengths above 0 that add up to the 16"):
        check_groups(groups, 16)


def test_what_a_gate_needs_is_asked_for_before_anything_goes_backward(
    losses: list[Tensor], shared: list[Tensor], private: list[Tensor]
) -> None:
    with pytest.raises(
        ValueError, match="Significant needs 4 slices of the data, not 0: give slices="
    ):
        gated_backward(losses, make("significant"), shared, private)
    with pytest.raises(ValueError, match=r"Attittud needs per-sample .*: give samples=, 5"):
        gated_backward(losses, make("attittud", refresh=1), shared, private)
    assert untouched(shared, private)


def test_slices_have_every_loss(losses: list[Tensor]) -> None:
    gate = make("significant")
    check_demands(gate, 2, None, [losses] * 4)
    with pytest.raises(ValueError, match=r"slices\[0\] must have one loss for each of the 2"):
        check_demands(gate, 2, None, [losses[:1]] * 4)
    with pytest.raises(ValueError, match="needs 4 slices of the data, not 3"):
        check_demands(gate, 2, None, [losses] * 3)
    with pytest.raises(ValueError, match="samples is empty"):
        check_demands(make("attittud"), 2, [], None)


def test_reused_weights_are_one_per_loss(
    losses: list[Tensor], shared: list[Tensor], private: list[Tensor]
) -> None:
    with pytest.raises(ValueError, match="one number for each of 2 losses"):
        gated_backward(losses, make("cosine"), shared, private, weights=torch.ones(3))
    assert untouched(shared, private)


def test_a_sparse_gradient_is_one_like_any_other(heads: nn.ModuleList) -> None:
    words = nn.Embedding(6, 4, sparse=True)
    rows = []
    for sparse in True, False:
        words.sparse = sparse
        losses = [head(words(torch.tensor([1, 3]))).square().mean() for head in heads]
        words.weight.grad = None
        gated_backward(losses, make("cosine"), [words.weight], [*heads.parameters()])
        rows.append(words.weight.grad)
    torch.testing.assert_close(*rows)
