"""From losses to `.grad`: who gets which gradient, in how many passes, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from agents.gates import (
    Gate,
    Judgement,
    gated_backward,
    make,
)


@dataclass(frozen=True)
class Net:
    """A trunk that all losses share, a head for each loss."""

    trunk: nn.Sequential
    heads: nn.ModuleList
    data: Tensor

    @property
    def shared(self) -> list[nn.Parameter]:
        return list(self.trunk.parameters())

    @property
    def private(self) -> list[nn.Parameter]:
        return list(self.heads.parameters())

    def losses(self, count: int = 3) -> list[Tensor]:
        features = self.trunk(self.data)
        return [head(features).square().mean() for head in list(self.heads)[:count]]

    def gradients(self) -> list[Tensor | None]:
        """Takes what is in `.grad` away."""
        parameters = [*self.shared, *self.private]
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return gradients


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net(
        trunk=nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 6), nn.Tanh()),
        heads=nn.ModuleList(nn.Linear(6, outputs) for outputs in (1, 2, 3)),
        data=torch.randn(7, 5),
    )


def shared_rows(net: Net) -> Tensor:
    """Gives the gradient of each loss over the trunk, the slow way."""
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(net.losses()[i], net.shared)])
            for i in range(3)
        ]
    )


def closed_losses(net: Net) -> list[Tensor]:
    """Gives a main loss and an auxiliary that opposes it over the trunk but trains a head."""
    main, _, other = net.losses()
    return [main, 1e-3 * other - 2.0 * main]


def test_the_trunk_gets_the_gated_gradient_and_each_head_its_own(net: Net) -> None:
    judgement = gated_backward(net.losses(), make("cosine"), net.shared, net.private)
    gradients = net.gradients()
    expected = make("cosine").combine(shared_rows(net))
    assert_close(judgement.direction, expected)
    assert_close(torch.cat([g.flatten() for g in gradients[:4] if g is not None]), expected)
    sum(net.losses()).backward()
    for gated, plain in zip(gradients[4:], net.gradients()[4:], strict=True):
        assert_close(gated, plain)


@pytest.mark.parametrize("measure", [False, True])
def test_sum_is_the_backward_of_the_summed_loss(net: Net, measure: bool) -> None:
    gated_backward(net.losses(), make("sum", measure=measure), net.shared, net.private)
    gated = net.gradients()
    sum(net.losses()).backward()
    for one, other in zip(gated, net.gradients(), strict=True):
        assert_close(one, other)


def test_a_single_loss_is_plain_backward_bit_for_bit(net: Net) -> None:
    gate = make("projection", decay=0.9)
    judgement = gated_backward(net.losses(1), gate, net.shared, net.private)
    gated = net.gradients()
    net.losses(1)[0].backward()
    for one, other in zip(gated, net.gradients(), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert judgement.weights.tolist() == [[1.0, 0.0]]
    assert gate.state_dict()["average"].numel() == 0


@pytest.mark.parametrize("name", ["cosine", "cosine_unweighted"])
def test_a_closed_gate_leaves_the_agent_as_if_it_were_alone_bit_for_bit(
    net: Net, name: str
) -> None:
    losses = closed_losses(net)
    own = net.private[4:]
    judgement = gated_backward(losses, make(name), [*net.shared, *net.private[:2]], own)
    assert judgement.weights.tolist() == [[1.0, 0.0]]
    gated = net.gradients()
    gated_backward(closed_losses(net)[:1], make(name), [*net.shared, *net.private[:2]], own)
    for one, other in zip(gated[:6], net.gradients()[:6], strict=True):
        assert one is not None
        assert torch.equal(one, other)
    assert gated[8] is not None
    assert gated[8].any()


def test_the_main_heads_gradient_is_not_touched_by_auxiliaries_bit_for_bit(net: Net) -> None:
    gated_backward(net.losses(), make("cosine"), net.shared, net.private)
    gated = net.gradients()
    gated_backward(net.losses(1), make("cosine"), net.shared, net.private)
    for one, other in zip(gated[4:6], net.gradients()[4:6], strict=True):
        assert one is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["sum", "cosine"])
def test_gradients_add_to_what_is_there(net: Net, name: str) -> None:
    gated_backward(net.losses(), make(name), net.shared, net.private)
    once = net.gradients()
    for _ in range(2):
        judgement = gated_backward(net.losses(), make(name), net.shared, net.private)
    for one, two in zip(once, net.gradients(), strict=True):
        assert one is not None
        assert_close(2 * one, two)
    # What is returned is not what later calls add to.
    assert_close(judgement.direction, torch.cat([g.flatten() for g in once[:4] if g is not None]))


def test_a_parameter_that_no_loss_reaches(net: Net) -> None:
    stranger, private = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    for losses in (net.losses(), net.losses(1)):
        gated_backward(losses, make("cosine"), [*net.shared, stranger], [private])
        assert stranger.grad is not None
        assert stranger.grad.tolist() == [0.0, 0.0]
        assert private.grad is None


def test_a_loss_without_a_graph_counts_as_zero(net: Net) -> None:
    judgement = gated_backward([*net.losses(2), torch.tensor(3.0)], make("projection"), net.shared)
    assert judgement.weights[0, 2] == 0.0
    assert judgement.gramian.norm[0, 2] == 0.0


def test_one_gradient_handed_out_twice_is_added_once_to_each() -> None:
    # Autograd returns one and the same tensor for both addends.
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    for _ in range(2):
        gated_backward([(a + b).sum()], make("cosine"), [torch.ones(1, requires_grad=True)], [a, b])
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == b.grad.tolist() == [2.0] * 3


@pytest.mark.parametrize(("name", "passes"), [("sum", 1), ("cosine", 3)])
def test_there_is_one_pass_per_loss_or_a_single_one(net: Net, name: str, passes: int) -> None:
    seen: list[Tensor] = []
    net.trunk[0].weight.register_hook(seen.append)
    gated_backward(net.losses(), make(name), net.shared, net.private)
    assert len(seen) == passes


def test_groups_are_judged_apart(net: Net) -> None:
    groups = [parameter.numel() for parameter in net.shared]
    judgement = gated_backward(net.losses(), make("cosine"), net.shared, groups=groups)
    assert judgement.weights.shape == (4, 3)
    assert_close(judgement.direction, make("cosine").combine(shared_rows(net), groups=groups))


@pytest.mark.parametrize("name", ["sum", "cosine"])
def test_reduce_sees_rows_and_losses_before_they_are_judged(net: Net, name: str) -> None:
    seen: list[tuple[int, ...]] = []

    def double(rows: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((*rows.shape[:1], *losses.shape))
        return 2 * rows, losses

    plain = gated_backward(net.losses(), make(name), net.shared).direction
    doubled = gated_backward(net.losses(), make(name), net.shared, reduce=double).direction
    assert_close(doubled, 2 * plain)
    assert seen == [(1, 1) if name == "sum" else (3, 3)]


def test_samples_become_rows(net: Net) -> None:
    class Spy(type(make("cosine"))):  # type: ignore[misc]
        sample_rows = 2

        def references(
            self, rows: Tensor, groups: Sequence[int], samples: Tensor | None = None
        ) -> Tensor:
            assert samples is not None
            self.seen = samples
            return rows[..., :0, :]

    gate = Spy()
    losses = net.losses()
    gated_backward(losses[:2], gate, net.shared, samples=[losses[2], 2 * losses[2]])
    expected = shared_rows(net)[2]
    assert_close(gate.seen, torch.stack([expected, 2 * expected]))


def test_rows_of_slices_take_the_place_of_those_of_the_losses(net: Net) -> None:
    seen: list[Tensor] = []

    def sliced_losses() -> list[list[Tensor]]:
        cut = (slice(0, 2), slice(2, 4), slice(4, 7))
        features = net.trunk(net.data)
        steps = [head(features).square().mean(-1) / 7 for head in net.heads]
        return [[each[part].sum() for each in steps] for part in cut]

    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(sliced_losses()[i][j], net.shared)])
            for i in range(3)
            for j in range(3)
        ]
    ).view(3, 3, -1)
    gate = make("significant", slices=3, confidence=0.4, unknown=0.5)
    net.trunk[0].weight.register_hook(seen.append)
    judgement = gated_backward(net.losses(), gate, net.shared, net.private, slices=sliced_losses())
    gradients = net.gradients()
    assert len(seen) == 9
    assert_close(judgement.direction, gate.judge(rows.sum(0), slices=rows).direction)
    assert_close(rows.sum(0), shared_rows(net))
    sum(net.losses()).backward()
    for gated, plain in zip(gradients[4:], net.gradients()[4:], strict=True):
        assert_close(gated, plain)


def test_reduce_sees_the_rows_of_every_slice(net: Net) -> None:
    parts = [[loss / 4 for loss in net.losses()] for _ in range(4)]
    gate = make("significant")

    def double(rows: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * rows, losses

    plain = gated_backward(net.losses(), gate, net.shared, slices=parts).direction
    parts = [[loss / 4 for loss in net.losses()] for _ in range(4)]
    doubled = gated_backward(net.losses(), gate, net.shared, slices=parts, reduce=double).direction
    assert_close(doubled, 2 * plain)


def test_bfloat16_parameters_get_bfloat16_gradients_judged_in_float32(net: Net) -> None:
    narrow = Net(net.trunk.bfloat16(), net.heads.bfloat16(), net.data.bfloat16())
    judgement = gated_backward(narrow.losses(), make("cosine"), narrow.shared, narrow.private)
    assert judgement.direction.dtype == torch.float32
    assert all(g is not None and g.dtype == torch.bfloat16 for g in narrow.gradients())


def test_double_parameters_stay_double(net: Net) -> None:
    wide = Net(net.trunk.double(), net.heads.double(), net.data.double())
    judgement = gated_backward(wide.losses(), make("cosine"), wide.shared, wide.private)
    assert judgement.direction.dtype == torch.float64
    assert wide.shared[0].grad is not None
    assert wide.shared[0].grad.dtype == torch.float64


def reuse(net: Net, losses: Sequence[Tensor], weights: Tensor) -> Judgement:
    return gated_backward(losses, make("cosine"), net.shared, net.private, weights=weights)


@pytest.mark.parametrize("weights", [[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])
def test_reused_weights_scale_each_loss_over_the_trunk_only(net: Net, weights: list[float]) -> None:
    reuse(net, net.losses(), torch.tensor(weights))
    gradients = net.gradients()
    trunk = torch.cat([g.flatten() for g in gradients[:4] if g is not None])
    assert_close(trunk, torch.tensor(weights) @ shared_rows(net))
    sum(net.losses()).backward()
    for reused, plain in zip(gradients[4:], net.gradients()[4:], strict=True):
        assert_close(reused, plain)


def test_reused_weights_of_a_closed_gate_leave_the_agent_alone_bit_for_bit(net: Net) -> None:
    gated_backward(
        net.losses(2), make("cosine"), net.shared, net.private, weights=torch.tensor([1.0, 0.0])
    )
    reused = net.gradients()
    net.losses(1)[0].backward()
    for one, other in zip(reused[:6], net.gradients()[:6], strict=True):
        assert one is not None
        assert torch.equal(one, other)


def test_reused_weights_equal_the_judgement_they_came_from(net: Net) -> None:
    gate: Gate = make("cosine")
    weights = gated_backward(net.losses(), gate, net.shared, net.private).weights[0]
    judged = net.gradients()
    reuse(net, net.losses(), weights)
    for one, other in zip(judged, net.gradients(), strict=True):
        assert_close(one, other)


def test_reused_weights_pass_the_trunk_once(net: Net) -> None:
    seen: list[Tensor] = []
    net.trunk[0].weight.register_hook(seen.append)
    reuse(net, net.losses(), torch.ones(3))
    assert len(seen) == 1


def test_the_rest_of_the_main_loss_is_not_compared_and_goes_along_at_its_weight(net: Net) -> None:
    main, auxiliary, rest = net.losses()
    gate = make("mgda")
    groups = [parameter.numel() for parameter in net.shared]
    judgement = gated_backward(
        [main, auxiliary], gate, net.shared, net.private, rest=rest, groups=groups
    )
    gradients = net.gradients()
    rows = shared_rows(net)
    expected = make("mgda").judge(rows[:2], groups=groups)
    along = torch.cat(
        [w * block for w, block in zip(expected.weights[:, 0], rows[2].split(groups), strict=True)]
    )
    assert_close(judgement.direction, expected.direction + along)
    assert judgement.rest is not None
    assert_close(judgement.rest, rows[2])
    sum(net.losses()).backward()
    for gated, plain in zip(gradients[4:], net.gradients()[4:], strict=True):
        assert_close(gated, plain)


def test_a_metric_scales_what_is_compared_and_not_what_is_added(net: Net) -> None:
    rows = shared_rows(net)
    metric = torch.linspace(0.1, 3.0, rows.shape[1])
    judgement = gated_backward(net.losses(), make("cosine"), net.shared, metric=metric)
    expected = make("cosine").judge(rows * metric)
    assert_close(judgement.weights, expected.weights)
    assert_close(judgement.direction, (expected.weights @ rows)[0])


def test_a_main_loss_may_be_compared_with_and_not_descended(net: Net) -> None:
    rows = shared_rows(net)
    judgement = gated_backward(net.losses(), make("cosine"), net.shared, descend_main=False)
    weights = make("cosine").judge(rows).weights[0]
    assert_close(judgement.direction, weights[1:] @ rows[1:], atol=1e-6, rtol=1e-4)
    summed = gated_backward(net.losses(), make("sum"), net.shared, descend_main=False)
    assert_close(summed.direction, rows[1:].sum(0))


def test_a_judgement_tells_which_gradients_are_finite_and_keeps_them(net: Net) -> None:
    main, auxiliary, other = net.losses()
    judgement = gated_backward([main, auxiliary * torch.inf, other], make("cosine"), net.shared)
    assert judgement.finite is not None
    assert judgement.finite.tolist() == [True, False, True]
    assert judgement.rows is not None
    assert judgement.rows.shape == (3, sum(parameter.numel() for parameter in net.shared))


def test_a_judgement_prints_in_one_short_line(net: Net) -> None:
    shown = repr(gated_backward(net.losses(), make("sum"), net.shared))
    assert shown.startswith("Judgement(")
    assert shown.endswith("weights [1.0, 1.0, 1.0])")
    assert len(shown) < 100


@pytest.mark.parametrize("name", ["sum", "cosine"])
def test_a_main_loss_that_is_not_descended_reaches_no_private_parameter(
    net: Net, name: str
) -> None:
    gated_backward(net.losses(), make(name), net.shared, net.private, descend_main=False)
    gradients = net.gradients()[4:]
    sum(net.losses()[1:]).backward()
    for gated, plain in zip(gradients, net.gradients()[4:], strict=True):
        assert (gated is None and plain is None) or torch.equal(gated, plain)


def test_there_must_be_something_to_descend(net: Net) -> None:
    with pytest.raises(ValueError, match="nothing would be descended"):
        gated_backward(net.losses(1), make("cosine"), net.shared, descend_main=False)
