"""The reference of a judgement, its metric, its samples and slices, by hand."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import A2CConfig, PPOConfig
from agents.gates import make
from agents.learning.gating import GatingConfig
from agents.learning.learner import Learner
from agents.learning.views import SlicedView
from agents.runtime.distributed import ALONE
from tests.agents.updating import (
    A2C,
    CONFIG,
    Head,
    Opponent,
    Steep,
    agent_numbers,
    collect,
    gradients,
    numbers,
    same,
    update_all,
)

FREE = {"max_gradient_norm": 0.0}


def flat(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found])


def torso_gradient(learner):
    return torch.cat([p.grad.flatten() for p in learner.agent.torso.parameters()])


def parts(agent, head, trajectory, part="policy"):
    """Gradients over the torso: of the part compared with, of the rest, of the auxiliary loss."""
    output, valid = agent(trajectory.observation), trajectory.valid
    main = A2C.loss(output, trajectory)
    bonus = A2C.entropy_coefficient * main.entropy
    compared, rest = main.policy, A2C.value_coefficient * main.value
    if part == "policy":
        compared = compared - bonus
    else:
        rest = rest - bonus
    auxiliary = head(agent, output, trajectory, None).loss
    torso = list(agent.torso.parameters())
    return [flat(loss[valid].mean(), torso) for loss in (compared, rest, auxiliary)]


def cosine(x, y):
    return torch.cosine_similarity(x, y, dim=0)


# The policy part as the reference.


@pytest.mark.parametrize("part", ["policy", "return"])
def test_a_part_judges_and_the_rest_goes_along(build_learner, collected, part):
    learner = build_learner({"aux": Head()}, gating=GatingConfig(main=part), **FREE)
    weights = []
    for trajectory in collected:
        agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
        metrics = learner.update(trajectory)
        g, v, h = parts(agent, head, trajectory, part)
        weights.append(cosine(g, h).clamp(min=0))
        assert_close(torso_gradient(learner), g + v + weights[-1] * h, rtol=1e-4, atol=1e-6)
        assert_close(metrics["aux/cosine"], cosine(g, h), rtol=1e-4, atol=1e-5)
        assert_close(metrics["aux/cosine_all"], cosine(g + v, h), rtol=1e-4, atol=1e-5)
        assert_close(metrics["aux/weight"], weights[-1], rtol=1e-4, atol=1e-5)
    # Else there would be nothing to tell apart.
    assert any(0.01 < weight < 0.99 for weight in weights)


def test_private_gradients_are_what_they_are_whatever_the_reference(build_learner, collected):
    whole = build_learner({"aux": Head()}, **FREE)
    policy = build_learner({"aux": Head()}, gating=GatingConfig(main="policy"), **FREE)
    whole.update(collected[0])
    policy.update(collected[0])
    for name in ("policy", "value"):
        for mine, theirs in zip(
            gradients(policy.agent.parts[name]), gradients(whole.agent.parts[name]), strict=True
        ):
            assert_close(mine, theirs)
    for mine, theirs in zip(gradients(policy.heads), gradients(whole.heads), strict=True):
        assert_close(mine, theirs)


def test_the_value_part_has_the_main_rows_weight_in_each_group(build_learner, collected):
    # MGDA weakens the main row, differently in each tensor.
    learner = build_learner(
        {"aux": Head(weight=0.002)}, "mgda", gating=GatingConfig("tensor", main="policy"), **FREE
    )
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    learner.update(collected[0])
    g, v, h = parts(agent, head, collected[0])
    h = 0.002 * h
    lengths = [p.numel() for p in agent.torso.parameters()]
    judgement = make("mgda").judge(torch.stack([g, h]), groups=lengths)
    main = judgement.weights[:, 0]
    assert (main < 0.9).any()
    assert main.std() > 0.01
    expected = judgement.direction + main.repeat_interleave(torch.tensor(lengths)) * v
    assert_close(torso_gradient(learner), expected, rtol=1e-4, atol=1e-6)


def test_between_judgements_the_value_part_goes_along_too(build_learner, collected):
    learner = build_learner({"aux": Head()}, gating=GatingConfig(every=2, main="policy"), **FREE)
    weight = learner.update(collected[0])["aux/weight"]
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    metrics = learner.update(collected[1])
    g, v, h = parts(agent, head, collected[1])
    assert_close(torso_gradient(learner), g + v + weight * h, rtol=1e-4, atol=1e-6)
    assert "aux/cosine_all" not in metrics


class SteepValue(type(A2C)):
    """A value term that is finite, but whose gradient is not: the root of zero is steep."""

    def __init__(self):
        super().__init__(A2CConfig(), 0.9, ALONE)

    def loss(self, output, *others):
        main = super().loss(output, *others)
        root = (0.0 * output.features[:-1].sum(-1)).abs().sqrt()
        return replace(main, value=main.value + root)


def test_a_value_gradient_that_is_not_finite_skips_agent_and_heads(build_learner, collected):
    learner = build_learner(
        {"aux": Head()}, algorithm=SteepValue(), gating=GatingConfig(main="policy")
    )
    before = agent_numbers(learner) + numbers(learner.heads.state_dict())
    metrics = learner.update(collected[0])
    assert metrics["skipped"] == 1.0
    assert metrics["value_loss"].isfinite()
    # The moments come into being, and are zero.
    learner.update(collected[1])
    after = agent_numbers(learner)[: len(numbers(learner.agent.state_dict()))]
    assert same(before, after + numbers(learner.heads.state_dict()))


# The metric of the optimizer.


def denominator(learner):
    """Adam's, from its formula: all steps were taken."""
    state = learner.state_dict()["optimizers"]["agent"]["state"]
    names = [name for name, _ in learner.agent.named_parameters()]
    pieces = []
    for index, name in enumerate(names):
        if name.startswith("torso."):
            moments = state[index]
            corrected = moments["exp_avg_sq"] / (1 - 0.999 ** float(moments["step"]))
            pieces.append((corrected.sqrt() + CONFIG.adam_epsilon).flatten())
    return torch.cat(pieces)


def test_the_cosine_is_that_of_the_step_that_is_taken(build_learner, collected):
    learner = build_learner({"aux": Head()}, gating=GatingConfig(metric="optimizer"), **FREE)
    first = learner.update(collected[0])
    assert first["aux/sign_differs"].isnan()
    weights, differs = [], []
    for trajectory in collected[1:]:
        agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
        root = denominator(learner).sqrt()
        metrics = learner.update(trajectory)
        policy, value, h = parts(agent, head, trajectory)
        g = policy + value
        weights.append(cosine(g / root, h / root))
        differs.append(float(weights[-1].sign() != cosine(g, h).sign()))
        assert_close(metrics["aux/cosine"], weights[-1], rtol=1e-3, atol=1e-4)
        assert metrics["aux/sign_differs"] == differs[-1]
        expected = g + weights[-1].clamp(min=0) * h
        assert_close(torso_gradient(learner), expected, rtol=1e-3, atol=1e-5)
        assert abs(weights[-1] - cosine(g, h)) > 1e-3
    assert any(0.01 < weight < 0.99 for weight in weights)


def test_before_the_first_step_the_metric_is_the_plain_one(build_learner, collected):
    scaled = build_learner({"aux": Head()}, gating=GatingConfig(metric="optimizer"))
    plain = build_learner({"aux": Head()})
    scaled.update(collected[0])
    plain.update(collected[0])
    assert same(agent_numbers(scaled), agent_numbers(plain))


def test_a_closed_gate_leaves_the_main_gradient_in_any_metric(build_learner, collected):
    learner = build_learner({"aux": Opponent()}, gating=GatingConfig(metric="optimizer"), **FREE)
    alone = build_learner(**FREE)
    for trajectory in collected:
        assert learner.update(trajectory).get("aux/weight") == 0.0
        alone.update(trajectory)
        # Scaled and scaled back: the last bits may differ.
        for mine, theirs in zip(gradients(learner.agent), gradients(alone.agent), strict=True):
            assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


# Samples and slices.


class Seen(type(make("attittud"))):
    """Remembers what samples it was given."""

    def __init__(self):
        super().__init__(rank=2, refresh=3)
        self.given = []

    def references(self, rows, groups, samples=None):
        self.given.append(samples)
        return super().references(rows, groups, samples)


def spied(build_agent, catch, algorithm=A2C, **config):
    gate = Seen()
    agent = build_agent(catch.spec)
    return Learner(agent, algorithm, {"aux": Head()}, gate, replace(CONFIG, **config)), gate


def test_samples_come_at_every_so_many_judgements(build_agent, catch, collected):
    learner, gate = spied(build_agent, catch)
    update_all(learner, collected)
    assert [samples is not None for samples in gate.given] == [True, False, False] * 2
    assert gate.given[0].shape[0] == 2
    assert not torch.allclose(gate.given[0], gate.given[3])


def test_samples_are_of_the_reference_that_is_judged(build_agent, catch, collected):
    def first(main):
        learner, gate = spied(build_agent, catch, gating=GatingConfig(main=main))
        learner.update(collected[0])
        return gate.given[0]

    assert not torch.allclose(first("all"), first("policy"))


def test_samples_of_minibatches(build_agent, build_catch):
    env = build_catch(num_envs=4)
    played = collect(env, build_agent(env.spec), 2, records_value=True)
    learner, gate = spied(build_agent, env, PPOConfig(epochs=1, minibatches=2).build(0.9))
    update_all(learner, played)
    assert [samples is not None for samples in gate.given] == [True, False, False, True]


def test_slices_of_environments_are_judged_as_their_rows(build_learner, build_agent, build_catch):
    env = build_catch(num_envs=6)
    played = collect(env, build_agent(env.spec), 4)
    learner = build_learner({"aux": Head()}, "significant", **FREE)
    for trajectory in played:
        agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
        metrics = learner.update(trajectory)
        count = trajectory.valid.sum()
        rows = []
        # Six environments in four slices: 0 1 | 2 | 3 4 | 5.
        for chosen in ([0, 1], [2], [3, 4], [5]):
            part = trajectory.select(torch.tensor(chosen))
            policy, value, h = parts(agent, head, part)
            rows.append(torch.stack([policy + value, h]) * (part.valid.sum() / count))
        slices = torch.stack(rows)
        gate = make("significant")
        judgement = gate.judge(slices.sum(0), slices=slices)
        assert_close(torso_gradient(learner), judgement.direction, rtol=1e-4, atol=1e-6)
        known = gate.notes(judgement.gramian)["known"]
        assert metrics["aux/known"] == known[0]


def test_without_heads_nothing_is_cut(build_learner, collected):
    alone, sliced = build_learner(), build_learner(gate="significant")
    update_all(alone, collected)
    update_all(sliced, collected)
    assert same(agent_numbers(alone), agent_numbers(sliced))


def test_only_updates_that_are_judged_are_cut(build_learner, build_agent, build_catch):
    env = build_catch(num_envs=4)
    played = collect(env, build_agent(env.spec), 4)
    learner = build_learner({"aux": Head()}, "significant", gating=GatingConfig(every=3))
    due, judged = [], []
    for trajectory in played:
        view = learner.gating.view(trajectory, learner.updates, 0.01)
        due.append(view.count if isinstance(view, SlicedView) else 0)
        judged.append("aux/known" in learner.update(trajectory))
    assert due == [4, 0, 0, 4]
    assert judged == [True, False, False, True]


def test_a_gradient_that_is_not_finite_is_dropped_from_all_slices(
    build_learner, build_agent, build_catch
):
    env = build_catch(num_envs=4)
    played = collect(env, build_agent(env.spec), 3)
    alone, gated = build_learner(), build_learner({"aux": Steep()}, "significant")
    for trajectory in played:
        alone.update(trajectory)
        assert gated.update(trajectory)["aux/dropped"] == 1.0
    for mine, theirs in zip(gradients(gated.agent), gradients(alone.agent), strict=True):
        assert_close(mine, theirs)


# Saving.


def test_what_samples_depend_on_is_saved_for_the_gates_that_ask(build_learner):
    assert "judgements" not in build_learner({"aux": Head()}, "cosine").state_dict()
    state = build_learner({"aux": Head()}, "attittud").state_dict()
    assert state["judgements"] == 0
    assert len(numbers(state["combinations"])) == 1


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^every must be at least 1, not 0"):
        GatingConfig(every=0)
