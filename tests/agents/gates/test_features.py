"""Gradients that are weighed at the features: what it shares with weighing at parameters."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from agents.gates import Gates, Judgement, gated_backward, make
from agents.gates.checks import check_at_features

WEIGHED = [
    *("cosine", "cosine_unweighted", "projection", "orthogonal", "pcgrad", "gradvac", "mgda"),
    *("cagrad", "upgrad", "nash", "auxinash", "gradnorm", "ol_aux", "bounded"),
]
OPTIONS: dict[str, dict[str, float]] = {"bounded": {"decay": 0.0}}
SIZES_COUNT = ["ol_aux"]
"""Weights follow absolute inner products, so other lengths of all rows give other weights."""

every_gate = pytest.mark.parametrize("name", WEIGHED)


@dataclass(frozen=True)
class Net:
    """A torso, a layer above it that two losses train, and a head for each of three losses."""

    torso: nn.Module
    above: nn.Linear
    heads: nn.ModuleList
    data: Tensor

    @staticmethod
    def of(torso: nn.Module, data: Tensor) -> "Net":
        torch.manual_seed(1)
        heads = nn.ModuleList(nn.Linear(4, outputs) for outputs in (1, 2, 3))
        return Net(torso, nn.Linear(4, 4), heads, data).double()

    def double(self) -> "Net":
        for module in (self.torso, self.above, self.heads):
            module.double()
        return Net(self.torso, self.above, self.heads, self.data.double())

    def losses(self, features: Tensor) -> list[Tensor]:
        read = [self.above(features), self.above(features), features]
        return [(h(z) - 1).square().mean() for h, z in zip(self.heads, read, strict=True)]

    def gated(self, name: str, at_features: bool, **options: object) -> tuple[Judgement, Tensor]:
        """Judges once; returns the judgement and the gradient of torso and what is above it."""
        everything = [*self.torso.parameters(), *self.above.parameters(), *self.heads.parameters()]
        for parameter in everything:
            parameter.grad = None
        features, private = self.torso(self.data), [*self.heads.parameters()]
        losses, gate = self.losses(features), make(name, **OPTIONS.get(name, {}))
        above = [*self.above.parameters()]
        if at_features:
            judgement = gated_backward(losses, gate, above, private, features=[features], **options)
        else:
            shared = [*self.torso.parameters(), *above]
            judgement = gated_backward(losses, gate, shared, private, **options)
        return judgement, torch.cat([p.grad.flatten() for p in everything if p.grad is not None])

    def rows(self) -> Tensor:
        """The gradients of the losses over torso and what is above it, and over the heads."""
        parameters = [*self.torso.parameters(), *self.above.parameters()]
        return torch.stack(
            [
                torch.cat([g.flatten() for g in found])
                for i in range(3)
                for found in [
                    torch.autograd.grad(
                        self.losses(self.torso(self.data))[i], parameters, materialize_grads=True
                    )
                ]
            ]
        )


def deep(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    torso = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh())
    return Net.of(torso, torch.randn(7, 5))


def test_the_weights_are_those_that_numpy_finds_at_the_features() -> None:
    # One layer, one head that reads z = tanh(W x): L_k = mean_n (c_k . z_n)^2.
    generator = np.random.default_rng(0)
    x, w, c = (generator.standard_normal(size) for size in ((7, 5), (4, 5), (3, 4)))
    z = np.tanh(x @ w.T)
    rows = [(2 / 7) * (z @ each)[:, None] * each for each in c]  # [N, F] of each loss
    norm = [np.linalg.norm(row) for row in rows]
    cosine = [max(0.0, np.sum(rows[0] * rows[k]) / norm[0] / norm[k]) for k in (1, 2)]
    at_features = rows[0] + cosine[0] * rows[1] + cosine[1] * rows[2]
    expected = ((1 - z**2) * at_features).T @ x

    weight = torch.tensor(w, requires_grad=True)
    features = (torch.tensor(x) @ weight.T).tanh()
    losses = [(features @ torch.tensor(each)).square().mean() for each in c]
    judgement = gated_backward(losses, make("cosine"), [], features=[features])
    assert_close(judgement.weights[0], torch.tensor([1.0, *cosine], dtype=torch.float64))
    assert_close(judgement.direction, torch.tensor(at_features).flatten())
    assert_close(weight.grad, torch.tensor(expected))


@every_gate
def test_the_network_gets_the_weights_times_its_own_gradients(name: str) -> None:
    net = deep()
    judgement, found = net.gated(name, at_features=True)
    rows = net.rows()
    assert_close(found[: rows.shape[1]], judgement.weights[0] @ rows)
    # Heads: their own gradient, as ever.
    _, expected = net.gated(name, at_features=False)
    assert_close(found[rows.shape[1] :], expected[rows.shape[1] :])


class OneHot(nn.Module):
    """A linear layer whose inputs are orthonormal: each sample has weights of its own."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(samples, 4))

    def forward(self, data: Tensor) -> Tensor:
        return data @ self.weight


@every_gate
def test_with_one_linear_layer_of_orthonormal_inputs_both_places_agree(name: str) -> None:
    torch.manual_seed(0)
    net = Net.of(OneHot(7), torch.linalg.qr(torch.randn(7, 7)).Q)
    one, found = net.gated(name, at_features=True)
    other, expected = net.gated(name, at_features=False)
    assert_close(one.gramian.cosine, other.gramian.cosine)
    assert_close(found, expected)


@every_gate
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_with_one_sample_and_one_linear_layer_both_places_agree(name: str, seed: int) -> None:
    # <dL_i/dW, dL_j/dW> = |x|^2 <dL_i/dz, dL_j/dz>; what is above is trained by no auxiliary.
    torch.manual_seed(seed)
    weight, x = torch.randn(4, 5, requires_grad=True), torch.randn(5)
    targets = torch.randn(3, 4)

    def gradient(at_features: bool) -> Tensor:
        weight.grad = None
        z = weight @ x
        losses = [(z - target).square().sum() for target in targets]
        gate = make(name, **OPTIONS.get(name, {}))
        if at_features:
            gated_backward(losses, gate, [], features=[z])
        else:
            gated_backward(losses, gate, [weight])
        assert weight.grad is not None
        return weight.grad.clone()

    if name in SIZES_COUNT:
        x /= x.norm()
    one, other = gradient(at_features=True), gradient(at_features=False)
    if name in ("nash", "auxinash"):  # they set the length of the step themselves
        one, other = one / one.norm(), other / other.norm()
    assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_a_network_below_both_places_are_one_bit_for_bit() -> None:
    weight = torch.randn(6, requires_grad=True)
    gradients = []
    for features in (False, True):
        weight.grad = None
        losses = [weight.square().sum(), (weight[:3] - 1).square().sum(), weight.sum()]
        if features:
            gated_backward(losses, make("cosine"), [], features=[weight])
        else:
            gated_backward(losses, make("cosine"), [weight])
        gradients.append(weight.grad)
    assert torch.equal(*gradients)


def test_one_pass_goes_through_the_network_below() -> None:
    net, passes = deep(), []
    features = net.torso(net.data)
    hidden = features.grad_fn.next_functions[0][0]
    hidden.register_hook(lambda *_: passes.append(1))
    losses = net.losses(features)
    gated_backward(losses, make("cosine"), [], [*net.heads.parameters(), *net.above.parameters()],
                   features=[features])  # fmt: skip
    assert len(passes) == 1


def test_groups_rest_and_weights_mean_what_they_mean_at_parameters() -> None:
    net = deep()
    columns = [7 * 4, *(p.numel() for p in net.above.parameters())]
    judgement, _ = net.gated("cosine", at_features=True, groups=columns)
    assert judgement.weights.shape == (3, 3)
    given = torch.tensor([1.0, 0.5, 0.0])
    _, found = net.gated("cosine", at_features=True, weights=given)
    rows = net.rows()
    assert_close(found[: rows.shape[1]], given.double() @ rows)
    features = net.torso(net.data)
    main, auxiliary, rest = net.losses(features)
    for parameter in net.torso.parameters():
        parameter.grad = None
    gated_backward([main, auxiliary], make("sum", measure=True), [*net.above.parameters()],
                   [*net.heads.parameters()], features=[features], rest=rest)  # fmt: skip
    found = torch.cat([p.grad.flatten() for p in net.torso.parameters() if p.grad is not None])
    assert_close(found, rows.sum(0)[: found.numel()])


def test_a_loss_that_goes_past_the_features_is_refused() -> None:
    net = deep()
    features = net.torso(net.data)
    main, auxiliary, _ = net.losses(features)
    private = [*net.heads.parameters(), *net.above.parameters()]
    past = auxiliary + net.torso(2 * net.data).sum()
    with pytest.raises(ValueError, match=r"losses\[1\] reaches a parameter that is neither below"):
        gated_backward([main, past], make("cosine"), [], private, features=[features])
    with pytest.raises(ValueError, match=r"losses\[0\] reaches a parameter that is neither below"):
        gated_backward([main, auxiliary], make("cosine"), [], [], features=[features])
    with pytest.raises(ValueError, match="one of the features is computed from another"):
        gated_backward(
            [main, auxiliary], make("cosine"), [], private, features=[features, features[:2]]
        )
    assert all(parameter.grad is None for parameter in net.torso.parameters())


def test_what_the_next_batch_has_no_columns_for_is_refused() -> None:
    for name, options, sentence in (
        ("projection", {"decay": 0.9}, "Projection cannot keep an average or a basis of them"),
        ("bounded", {}, "Bounded cannot keep an average"),
        ("attittud", {"refresh": 2}, "Attittud cannot keep an average"),
        ("significant", {}, "at features does not suit Significant"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_at_features(make(name, **options))
    with pytest.raises(ValueError, match="at features has no metric optimizer"):
        check_at_features(make("cosine"), "optimizer")
    with pytest.raises(ValueError, match="at features cannot weigh curl, which encodes"):
        check_at_features(make("cosine"), bypassing=["curl"])
    for name in vars(Gates()):
        if name not in ("significant", "attittud"):
            check_at_features(make(name, **OPTIONS.get(name, {})))
