"""What the heads share with the main loss, and whose gradient passes the gate."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.gates import make
from agents.learning.gating import GatingConfig
from agents.rollout.collector import Collector
from agents.runtime.random import generator
from tests.agents.updating import (
    NAN,
    Broken,
    Faulty,
    Head,
    Opponent,
    Probe,
    T,
    agent_numbers,
    collect,
    gradients,
    main_losses,
    numbers,
    same,
    update_all,
)

# Who is shared, and whose gradient passes the gate.


@pytest.mark.parametrize("head", [Head, Opponent])
def test_sum_is_the_backward_of_the_summed_loss(build_learner, collected, head):
    trajectory = collected[0]
    learner = build_learner({"aux": head(weight=0.3)}, "sum", max_gradient_norm=0.0)
    agent, twin = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    learner.update(trajectory)
    output = agent(trajectory.observation)
    loss = main_losses(output, trajectory) + 0.3 * twin(agent, output, trajectory, None).loss
    loss[trajectory.valid].mean().backward()
    for mine, theirs in ((learner.agent, agent), (learner.heads["aux"], twin)):
        for x, y in zip(gradients(mine), gradients(theirs), strict=True):
            assert_close(x, y)


def test_a_half_open_gate_gives_the_agent_the_gated_gradient(build_learner, collected):
    trajectory = collected[0]
    learner = build_learner({"aux": Head()}, "cosine", max_gradient_norm=0.0)
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    metrics = learner.update(trajectory)
    output = agent(trajectory.observation)
    shared, valid = list(agent.torso.parameters()), trajectory.valid
    main = main_losses(output, trajectory)[valid].mean()
    auxiliary = head(agent, output, trajectory, None).loss[valid].mean()
    g, h = (torch.autograd.grad(loss, shared, retain_graph=True) for loss in (main, auxiliary))
    flat_g, flat_h = (torch.cat([x.flatten() for x in rows]) for rows in (g, h))
    cosine = torch.cosine_similarity(flat_g, flat_h, dim=0)
    assert_close(metrics["aux/cosine"], cosine)
    for parameter, x, y in zip(learner.agent.torso.parameters(), g, h, strict=True):
        assert_close(parameter.grad, x + cosine.clamp(min=0) * y)


@pytest.mark.parametrize("gate", ["cosine", "cosine_unweighted"])
def test_a_closed_gate_changes_no_number_of_the_agent_in_20_updates(
    build_catch, build_learner, gate
):
    def trained(heads):
        env = build_catch()
        learner = build_learner(heads, gate)
        collector = Collector(env, learner.agent, generator(0, "acting", env.device), T)
        logs = [learner.update(collector.collect()) for _ in range(20)]
        return learner, logs

    alone, expected = trained({})
    opponent = Opponent()
    first = numbers(opponent.state_dict())
    gated, logs = trained({"aux": opponent})
    assert same(agent_numbers(alone), agent_numbers(gated))
    for mine, theirs in zip(logs, expected, strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
        assert mine["aux/weight"] == mine["aux/open"] == 0.0
        assert_close(mine["aux/cosine"], torch.tensor(-1.0))
    assert not same(first, numbers(opponent.state_dict()))


def test_the_opponent_hurts_without_a_gate(build_learner, collected):
    # Else the closed gate above would close nothing: main - 0.5 main is half as long.
    alone = build_learner(max_gradient_norm=0.0)
    summed = build_learner({"aux": Opponent(weight=0.5)}, "sum", max_gradient_norm=0.0)
    alone.update(collected[0])
    summed.update(collected[0])
    for x, y in zip(gradients(summed.agent), gradients(alone.agent), strict=True):
        assert_close(x, 0.5 * y)


@pytest.mark.parametrize("gate", ["sum", "cosine"])
def test_a_heads_own_parameters_get_their_own_gradient_whatever_the_gate(
    build_learner, collected, gate
):
    trajectory = collected[0]
    learner = build_learner({"aux": Opponent(weight=0.5)}, gate, max_gradient_norm=0.0)
    head = copy.deepcopy(learner.heads["aux"])
    agent = copy.deepcopy(learner.agent)
    learner.update(trajectory)
    (0.5 * head.error(agent(trajectory.observation))[trajectory.valid].mean()).backward()
    for x, y in zip(gradients(learner.heads["aux"]), gradients(head), strict=True):
        assert_close(x, y)


def test_a_head_that_trains_no_part_of_the_agent_leaves_it_alone(build_learner, collected):
    alone, probed = build_learner(), build_learner({"aux": Probe()})
    update_all(alone, collected)
    metrics = update_all(probed, collected)
    assert same(agent_numbers(alone), agent_numbers(probed))
    assert metrics[-1]["aux/loss"] < metrics[0]["aux/loss"]
    assert metrics[-1]["aux/dropped"] == 0.0


def test_every_owner_is_clipped_by_its_own_norm(build_learner, collected):
    free = build_learner({"aux": Head(private_weight=100.0)}, max_gradient_norm=0.0)
    clipped = build_learner({"aux": Head(private_weight=100.0)}, max_gradient_norm=0.01)
    free.update(collected[0])
    metrics = clipped.update(collected[0])
    for owner, key in (("agent", "gradient_norm"), ("aux", "aux/gradient_norm")):
        module, unclipped = (
            learner.agent if owner == "agent" else learner.heads["aux"]
            for learner in (clipped, free)
        )
        norm = nn.utils.get_total_norm(gradients(unclipped))
        assert norm > 0.01
        assert_close(metrics[key], norm)
        assert_close(nn.utils.get_total_norm(gradients(module)), torch.tensor(0.01))


def test_a_large_gradient_of_a_head_shortens_none_of_the_agents(build_learner, collected):
    small = build_learner({"aux": Head(private_weight=1.0)})
    large = build_learner({"aux": Head(private_weight=1e4)})
    update_all(small, collected[:3])
    update_all(large, collected[:3])
    assert same(agent_numbers(small), agent_numbers(large))


@pytest.mark.parametrize("scope", ["shared", "tensor", "layer"])
def test_a_head_is_gated_in_every_scope(build_learner, collected, scope):
    alone, gated = build_learner(), build_learner({"aux": Opponent()}, gating=GatingConfig(scope))
    update_all(alone, collected)
    update_all(gated, collected)
    assert same(agent_numbers(alone), agent_numbers(gated))


# Judging every n-th update.


def test_between_judgements_the_last_weights_are_used_again(build_learner, collected):
    learner = build_learner(
        {"aux": Head()}, "cosine", gating=GatingConfig(every=3), max_gradient_norm=0.0
    )
    judged = []
    for trajectory in collected:
        agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
        metrics = learner.update(trajectory)
        judged.append("aux/cosine" in metrics)
        if judged[-1]:
            weight = metrics["aux/weight"]
        output = agent(trajectory.observation)
        main = main_losses(output, trajectory)[trajectory.valid].mean()
        own = head(agent, output, trajectory, None).loss[trajectory.valid].mean()
        own.backward(retain_graph=True, inputs=list(head.parameters()))
        (main + weight * own).backward(inputs=list(agent.parameters()))
        for x, y in zip(gradients(learner.agent), gradients(agent), strict=True):
            assert_close(x, y, rtol=1e-4, atol=1e-6)
        for x, y in zip(gradients(learner.heads["aux"]), gradients(head), strict=True):
            assert_close(x, y)
    assert judged == [True, False, False, True, False, False]


def test_the_weights_in_between_are_worth_a_test(build_learner, collected):
    # Were all of them 0 or 1, the test above would prove little.
    learner = build_learner({"aux": Head()}, "cosine", gating=GatingConfig(every=3))
    weights = [
        float(metrics["aux/weight"])
        for metrics in update_all(learner, collected)
        if "aux/weight" in metrics
    ]
    assert any(0.01 < weight < 0.99 for weight in weights)


@pytest.mark.parametrize("gate", ["cosine", make("significant", slices=3)])
def test_an_auxiliary_that_is_not_finite_between_judgements_is_dropped_there_as_well(
    build_learner, build_catch, build_agent, gate
):
    env = build_catch(3)  # one for each slice
    collected = collect(env, build_agent(env.spec), 2)
    broken = Broken()
    broken.factor = 1.0
    learner = build_learner({"aux": broken}, gate, gating=GatingConfig(every=2))
    learner.update(collected[0])
    broken.factor, before = NAN, numbers(learner.state_dict()["agent"])
    metrics = learner.update(collected[1])
    assert (metrics["skipped"], metrics["aux/dropped"]) == (0.0, 1.0)
    after = numbers(learner.state_dict()["agent"])
    assert not same(before, after)
    assert all(tensor.isfinite().all() for tensor in after)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_sum_drops_a_head_that_is_not_finite_and_nothing_else(
    build_learner, collected, every, fault
):
    heads = {"aux": Faulty(fault), "sound": Head()}
    gating = GatingConfig(every=every)
    learner = build_learner(heads, "sum", gating=gating, max_gradient_norm=0.0)
    before = [p.clone() for p in learner.heads["aux"].parameters()]
    late = fault == "gradient"  # which is seen when the update is made: that one is lost
    for number, trajectory in enumerate(collected[:4]):
        sound = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["sound"])
        metrics = learner.update(trajectory)
        assert metrics["skipped"] == float(late)
        if late and number == 0:
            continue
        assert metrics["aux/dropped"] == 1.0
        assert metrics["sound/dropped"] == 0.0
        agent, twin = sound
        output = agent(trajectory.observation)
        loss = main_losses(output, trajectory) + twin(agent, output, trajectory, None).loss
        loss[trajectory.valid].mean().backward()
        for x, y in zip(gradients(learner.agent), gradients(agent), strict=True):
            assert_close(x, y)
    for x, y in zip(learner.heads["aux"].parameters(), before, strict=True):
        assert_close(x, y, rtol=0.0, atol=0.0)


def test_a_gradient_that_is_not_finite_between_judgements_costs_one_update(
    build_learner, collected
):
    class Late(Faulty):
        sound = True

        def forward(self, *arguments):
            return Head.forward(self, *arguments) if self.sound else super().forward(*arguments)

    head = Late("gradient")
    learner = build_learner({"aux": head}, "cosine", gating=GatingConfig(every=4))
    learner.update(collected[0])
    head.sound = False
    for trajectory in collected[1:4]:  # between two judgements
        metrics = learner.update(trajectory)
    assert metrics["skipped"] == 1.0
    assert metrics["aux/dropped"] == 1.0
