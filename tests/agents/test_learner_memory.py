"""Agents with a recurrent core: what passes the gate, and in which blocks."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads import Schedule
from agents.heads.distill import Distill
from agents.learning.gating import GatingConfig
from agents.teachers import NetworkTeacher, PolicyCard
from tests.agents.updating import (
    Opponent,
    agent_numbers,
    collect,
    gradients,
    main_losses,
    numbers,
    same,
    update_all,
)

MEMORY = 5
"""Units of the core: what the heads of these tests read has five features."""


@pytest.fixture
def played(build_catch, build_agent, opinionated):
    """Trajectories of an agent that remembers, from the second on with something in mind."""
    env = build_catch()
    return collect(env, opinionated(build_agent(env.spec, memory=MEMORY)), 3)


@pytest.fixture
def distill(build_agent, catch, opinionated):
    """Makes a head whose teacher remembers, too."""

    def distill():
        card = PolicyCard("Catch", "", 3, (3, 5), "torch.float32", "raw", "mlp", {}, 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            teacher = opinionated(build_agent(catch.spec, seed=3, memory=3))
        return Distill(NetworkTeacher(teacher, card), 1.0, Schedule(0.5, 0.5, 0))

    return distill


BLOCKS = {
    "shared": lambda name: "all",
    "tensor": lambda name: name,
    "layer": lambda name: name.rpartition(".")[0],
}
"""What is judged together in each scope."""


def gradients_by_name(agent, loss):
    """Of all that distillation trains, which is all but the value."""
    reached = {n: p for n, p in agent.named_parameters() if not n.startswith("value.")}
    found = torch.autograd.grad(loss, list(reached.values()), retain_graph=True)
    return dict(zip(reached, found, strict=True))


@pytest.mark.parametrize("scope", BLOCKS)
def test_torso_core_and_policy_get_the_gated_gradient_in_every_scope(
    build_learner, played, distill, scope
):
    learner = build_learner(
        {"distill": distill()}, memory=MEMORY, gating=GatingConfig(scope), max_gradient_norm=0.0
    )
    twin, opened = distill(), []
    for trajectory in played:
        agent = copy.deepcopy(learner.agent)
        learner.update(trajectory)

        output, valid = agent.unroll(trajectory), trajectory.valid
        targets = twin.prepare(agent, trajectory)
        main = main_losses(output, trajectory)[valid].mean()
        auxiliary = 0.5 * twin(agent, output, trajectory, targets).loss[valid].mean()
        g, h = gradients_by_name(agent, main), gradients_by_name(agent, auxiliary)
        block = BLOCKS[scope]
        for name in {block(name) for name in g}:
            members = [n for n in g if block(n) == name]
            flat_g, flat_h = (torch.cat([x[n].flatten() for n in members]) for x in (g, h))
            cosine = torch.cosine_similarity(flat_g, flat_h, dim=0).clamp(min=0)
            opened.append(float(cosine))
            for n in members:
                mine = learner.agent.get_parameter(n).grad
                assert_close(mine, g[n] + cosine * h[n], rtol=1e-4, atol=1e-6)
    # Else there would be nothing to tell apart.
    assert any(0.01 < cosine < 0.99 for cosine in opened)


def test_an_update_changes_every_weight_of_the_core(build_learner, played):
    learner = build_learner(memory=MEMORY)
    before = numbers(learner.agent.core.state_dict())
    learner.update(played[1])  # which begins with something in mind
    after = numbers(learner.agent.core.state_dict())
    assert all(not torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_the_memory_that_a_trajectory_began_with_counts(build_learner, played):
    def updated(trajectory):
        learner = build_learner(memory=MEMORY, max_gradient_norm=0.0)
        learner.update(trajectory)
        return gradients(learner.agent)

    begun = played[2]  # from the middle of an episode
    forgotten = replace(begun, core_state=torch.zeros_like(begun.core_state))
    assert begun.core_state.any()
    assert not begun.episode_start.any()
    assert not same(updated(begun), updated(forgotten))


class Adversary(Opponent):
    """Opposes the main loss in the core, too."""

    trains = ("torso", "core", "policy", "value")


@pytest.mark.parametrize("scope", BLOCKS)
def test_a_closed_gate_changes_no_number_of_an_agent_that_remembers(build_learner, played, scope):
    alone = build_learner(memory=MEMORY)
    gated = build_learner({"aux": Adversary()}, memory=MEMORY, gating=GatingConfig(scope))
    update_all(alone, played)
    update_all(gated, played)
    assert same(agent_numbers(alone), agent_numbers(gated))
