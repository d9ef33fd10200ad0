"""The preference's gradient against finite differences of what the paper differentiates."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from agents.gates import gated_backward, make
from agents.gates.gramian import form
from agents.gates.methods.nash import LEAST, bargain
from agents.learning.auxinash import LearnedPreference, onto_simplex

L, P = 3, 5
INNER = 0.05


def quadratics(seed=0, num_losses=L):
    """Losses `(x - c)^T A (x - c) / 2` of their own A and c, in float64."""
    generator = torch.Generator().manual_seed(seed)
    roots = torch.randn(num_losses, P, P, generator=generator, dtype=torch.float64)
    centres = torch.randn(num_losses, P, generator=generator, dtype=torch.float64)
    matrices = roots @ roots.mT / P + 0.3 * torch.eye(P, dtype=torch.float64)

    def losses(x):
        return [
            (x - centre) @ matrix @ (x - centre) / 2
            for matrix, centre in zip(matrices, centres, strict=True)
        ]

    return losses, matrices, centres


def gradients(losses, x):
    point = x.clone().requires_grad_()
    return torch.stack([torch.autograd.grad(loss, point)[0] for loss in losses(point)])


def weights(rows, preference):
    """The solution of `a_i (G a)_i = p_i`."""
    gramian = form(rows)
    return bargain(gramian.cosine[0], preference) / gramian.norm[0]


def differences(function, preference):
    """The gradient by central differences, p being free to leave the simplex."""
    found = torch.zeros_like(preference)
    for index in range(len(preference)):
        change = torch.zeros_like(preference)
        change[index] = 1e-5
        found[index] = (function(preference + change) - function(preference - change)) / 2e-5
    return found


def learnt_from(gate, rows, losses, x, **options):
    """The gradient that is learnt from, on `losses` at x, after a step along `rows`."""
    preference = LearnedPreference(gate, every=1, **options)
    point = x.clone().requires_grad_()
    return preference._gradient(losses(point), [point], rows)


PREFERENCE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def test_with_no_terms_it_is_the_derivative_of_the_main_loss_after_the_step():
    losses, *_ = quadratics(0)
    following, *_ = quadratics(1)  # the next batch
    x, gate = torch.zeros(P, dtype=torch.float64), make("auxinash", preference=(0.5, 0.3, 0.2))
    rows = gradients(losses, x)

    def main_after(preference):
        return following(x - INNER * weights(rows, preference) @ rows)[0]

    after = x - INNER * weights(rows, PREFERENCE) @ rows
    found = learnt_from(gate, rows, following, after, terms=0)
    assert_close(INNER * found, differences(main_after, PREFERENCE), rtol=1e-6, atol=1e-9)


def test_a_long_series_is_implicit_differentiation_of_the_optimum():
    # The optimum of sum_i a_i loss_i, where G and with it a(p) is that of the last step: the
    # paper's L_V(theta*(a(p))).
    losses, matrices, centres = quadratics(0)
    following, *_ = quadratics(1)
    start = torch.zeros(P, dtype=torch.float64)
    last = gradients(losses, start)

    def optimum(a):
        matrix = torch.einsum("l,lij->ij", a, matrices)
        return torch.linalg.solve(matrix, torch.einsum("l,lij,lj->i", a, matrices, centres))

    def main_at_the_optimum(preference):
        return following(optimum(weights(last, preference)))[0]

    a = weights(last, PREFERENCE)
    there = optimum(a)
    # The paper's formula: -dL/dx H^-1 [g_1 .. g_L] da/dp, everything at the optimum but a itself.
    hessian = torch.einsum("l,lij->ij", a, matrices)
    main = gradients(following, there)[0]
    gate = make("auxinash", preference=(0.5, 0.3, 0.2))
    judgement = gate.judge(last)
    sensitivity = gate.sensitivity(judgement.gramian, judgement.weights)[0]
    here = gradients(losses, there)
    formula = -torch.linalg.solve(hessian, main) @ here.T @ sensitivity
    assert_close(formula, differences(main_at_the_optimum, PREFERENCE), rtol=1e-5, atol=1e-8)
    # And the series: it sums up to H^-1 over the rate.
    preference = LearnedPreference(gate, terms=400, inner_rate=0.3)
    point = there.clone().requires_grad_()
    # A main loss of weight 0, so that the Hessian is that of the others.
    curved = torch.cat([a.new_zeros(1), a])
    towards = preference._series([following(point)[0], *losses(point)], [point], curved)
    assert_close(0.3 * towards, torch.linalg.solve(hessian, main))


@pytest.mark.parametrize("terms", [1, 3])
def test_a_short_series_is_the_papers(terms):
    losses, matrices, _ = quadratics(0)
    x, gate = torch.ones(P, dtype=torch.float64), make("auxinash", preference=(0.5, 0.3, 0.2))
    rows = gradients(losses, x)
    a = gate.judge(rows).weights[0]
    step = np.eye(P) - INNER * np.einsum("l,lij->ij", a, matrices)
    series = sum(np.linalg.matrix_power(step, n) for n in range(terms + 1))
    judgement = gate.judge(rows)
    sensitivity = gate.sensitivity(judgement.gramian, judgement.weights)[0].numpy()
    expected = -(rows[0].numpy() @ series) @ rows.numpy().T @ sensitivity
    found = learnt_from(gate, rows, losses, x, terms=terms, inner_rate=INNER)
    assert_close(found, torch.from_numpy(expected))


def run(batches, every=1, seed=0, gate=None, preference=None, start=0, **options):
    """A loop as in the module's docstring; the preference after every batch."""
    torch.manual_seed(seed)
    gate = gate or make("auxinash")
    preference = preference or LearnedPreference(gate, every=every, **options)
    x = nn.Parameter(torch.full((P,), 0.5, dtype=torch.float64))
    optimizer, history = torch.optim.SGD([x], lr=INNER), []
    for batch in range(start, start + batches):
        losses, *_ = quadratics(batch, num_losses=2)
        optimizer.zero_grad()
        values = losses(x)
        preference.learn(values, [x])
        gated_backward(values, gate, [x], reduce=preference.remember)
        optimizer.step()
        history.append(gate.preference.clone())
    return torch.stack(history)


def test_it_learns_at_every_nth_batch_from_what_the_one_before_it_did():
    history = run(8, every=3)
    changed = (history[1:] != history[:-1]).any(-1).tolist()
    # Batches 3 and 6, counted from 0.
    assert changed == [False, False, True, False, False, True, False]
    assert_close(history[0], torch.full((2,), 0.5, dtype=torch.float64))


def learnt(which):
    """The preference where auxiliary `which` is the main loss without its noise.

    The other auxiliary pulls the opposite way.
    """
    gate = make("auxinash")
    preference = LearnedPreference(gate, every=1, learning_rate=0.1, terms=0)
    x = nn.Parameter(torch.zeros(P, dtype=torch.float64))
    for batch in range(40):
        noise = 0.1 * torch.randn(P, generator=torch.Generator().manual_seed(batch)).double()
        good, bad = (x - 1).square().sum(), (x + 3).square().sum()
        losses = [good + x @ noise, good, bad] if which == 1 else [good + x @ noise, bad, good]
        x.grad = None
        preference.learn(losses, [x])
        gated_backward(losses, gate, [x], reduce=preference.remember)
        with torch.no_grad():
            x -= 0.02 * x.grad
    return gate.preference


def test_the_auxiliary_that_helps_gains_power_and_the_one_that_hurts_loses_it():
    first, second = learnt(1), learnt(2)
    assert first[1] > 0.5 > 0.1 > first[2]
    assert second[2] > 0.5 > 0.1 > second[1]


@settings(deadline=None, max_examples=40)
@given(
    point=st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=1, max_size=6),
)
def test_the_nearest_point_of_the_simplex_is_found(point):
    given_point = torch.tensor(point, dtype=torch.float64)
    found = onto_simplex(given_point)
    assert_close(found.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert (found >= LEAST - 1e-15).all()
    # Nearest: whatever may still be shared out was moved by the same amount, and what stands at
    # the border would have to be moved up further than that.
    shift = found - given_point
    free = found > LEAST + 1e-12
    assert_close(shift[free], shift[free].mean().expand(int(free.sum())))
    assert (shift[~free] >= shift[free].mean() - 1e-9).all()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), rate=st.floats(1e-3, 10.0))
def test_the_preference_stays_on_the_simplex(seed, rate):
    history = run(4, seed=seed, learning_rate=rate)
    assert_close(history.sum(-1), torch.ones(4, dtype=torch.float64))
    assert (history >= LEAST - 1e-12).all()


def test_a_step_is_clipped_and_has_momentum():
    preference = LearnedPreference(make("auxinash", preference=(0.5, 0.3, 0.2)), learning_rate=0.01)
    # Freed of its mean 1 it is (3, -1, -2), of length sqrt(14), and clipped to 1.
    preference._step(torch.tensor([4.0, 0.0, -1.0], dtype=torch.float64))
    unit = torch.tensor([3.0, -1.0, -2.0], dtype=torch.float64) / 14**0.5
    assert_close(preference.gate.preference, PREFERENCE - 0.01 * unit)
    # A short one is taken as it is: 0.9 of the step before it, and (0.1, 0, -0.1).
    preference._step(torch.tensor([0.1, 0.0, -0.1], dtype=torch.float64))
    short = torch.tensor([0.1, 0.0, -0.1], dtype=torch.float64)
    assert_close(preference.gate.preference, PREFERENCE - 0.01 * (1.9 * unit + short))


@pytest.mark.parametrize("spoil", ["vanished", "not a number", "main not a number"])
def test_what_cannot_be_trusted_teaches_nothing(spoil):
    losses, *_ = quadratics(0)
    x = torch.zeros(P, dtype=torch.float64)
    gate = make("auxinash", preference=(0.5, 0.3, 0.2))
    preference = LearnedPreference(gate, every=1)
    rows = gradients(losses, x)
    if spoil == "vanished":
        rows[1] = 0.0
    if spoil == "not a number":
        rows[2, 1] = float("nan")
    point = x.clone().requires_grad_()
    main, *others = losses(point)
    main = main * float("nan") if spoil == "main not a number" else main
    preference.learn([main, *others], [point])
    preference.remember(rows, rows[:, 0])
    preference.learn([main, *others], [point])
    assert torch.equal(gate.preference, PREFERENCE)
    # The same without the fault does teach something, also afterwards.
    preference.remember(gradients(losses, x), rows[:, 0])
    preference.learn(losses(point), [point])
    assert not torch.equal(gate.preference, PREFERENCE)
    assert gate.preference.isfinite().all()


def test_it_goes_on_from_a_checkpoint_bit_for_bit():
    gate = make("auxinash")
    preference = LearnedPreference(gate, every=2)
    run(4, gate=gate, preference=preference)
    fresh = make("auxinash")
    fresh.load_state_dict(copy.deepcopy(gate.state_dict()))
    resumed = LearnedPreference(fresh, every=2)
    resumed.load_state_dict(copy.deepcopy(preference.state_dict()))
    expected = run(3, gate=gate, preference=preference, start=4)
    found = run(3, gate=fresh, preference=resumed, start=4)
    assert torch.equal(found, expected)
    assert not torch.equal(found[0], gate.preference)


def test_learning_takes_nothing_from_the_update():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    shared = list(model.parameters())

    def losses():
        out = model(torch.ones(3, 4))
        return [out[:, 0].square().sum(), (out[:, 1] - 1).square().sum()]

    plain = make("auxinash", preference=(0.6, 0.4))
    gated_backward(losses(), plain, shared)
    expected = [parameter.grad.clone() for parameter in shared]
    gate = make("auxinash", preference=(0.6, 0.4))
    preference = LearnedPreference(gate, every=1, learning_rate=1e-12)
    for _ in range(2):
        for parameter in shared:
            parameter.grad = None
        values = losses()
        preference.learn(values, shared)
        assert all(parameter.grad is None for parameter in shared)
        gated_backward(values, gate, shared, reduce=preference.remember)
    for parameter, gradient in zip(shared, expected, strict=True):
        assert_close(parameter.grad, gradient)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"every": 0}, r"every must be at least 1, not 0\.$"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0 and finite, not 0\.0\.$"),
        ({"momentum": 1.0}, r"momentum must be at least 0 and below 1, not 1\.0\.$"),
        ({"terms": -1}, r"terms must be 0 or more, not -1\.$"),
        ({"inner_rate": float("inf")}, r"inner_rate must be above 0 and finite, not inf\.$"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        LearnedPreference(make("auxinash"), **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_learning_waits_for_nothing(never_waits):
    gate = make("auxinash")
    preference = LearnedPreference(gate, every=1)
    x = nn.Parameter(torch.ones(P, device="cuda"))

    def update():
        losses = [x.square().sum(), (x - 1).pow(4).sum()]
        x.grad = None
        preference.learn(losses, [x])
        gated_backward(losses, gate, [x], reduce=preference.remember)

    for _ in range(2):
        update()  # allocates, and loads kernels
    with never_waits():
        update()
