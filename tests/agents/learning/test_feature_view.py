"""An agent whose gradients are weighed at the features: who gets what, with and without a core."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import PPOConfig
from agents.gates import make
from agents.heads import Schedule
from agents.learning.gating import GatingConfig
from agents.learning.learner import Learner
from agents.learning.views import FeatureView
from tests.agents.updating import (
    A2C,
    CONFIG,
    Head,
    Opponent,
    agent_numbers,
    collect,
    gradients,
    main_losses,
    numbers,
    same,
    update_all,
)

AT = GatingConfig(at="features")
MEMORY = 5


class Below(Head):
    """Reads the torso's features, which lie below those of a core."""

    def shared_loss(self, output, trajectory):
        return -(output.torso[:-1] - 1).square().sum(-1)


@pytest.fixture(params=[0, MEMORY], ids=["no core", "core"])
def setting(request, build_catch, build_agent, opinionated):
    """Makes learners of one agent, and a trajectory."""
    env = build_catch(num_envs=4)
    agent = opinionated(build_agent(env.spec, memory=request.param))
    trajectories = collect(env, agent, 3, records_value=True)

    def learner(heads, gate, gating=AT, algorithm=A2C):
        config = replace(CONFIG, gating=gating, max_gradient_norm=0.0)
        return Learner(copy.deepcopy(agent), algorithm, heads, gate, config)

    return learner, trajectories


HEADS = {"aux": Head, "below": Below, "opponent": lambda: Opponent(weight=0.3)}


def heads():
    return {name: make_head() for name, make_head in HEADS.items()}


def test_weights_of_one_give_every_part_the_gradient_of_the_summed_loss(setting):
    learner, trajectories = setting
    one = learner(heads(), make("sum", measure=True))
    other = learner(heads(), make("sum"), GatingConfig())
    for trajectory in trajectories[:1]:
        one.update(trajectory)
        other.update(trajectory)
    for mine, theirs in ((one.agent, other.agent), (one.heads, other.heads)):
        for x, y in zip(gradients(mine), gradients(theirs), strict=True):
            assert_close(x, y)


def test_the_torso_gets_the_gradients_weighed_by_cosines_at_the_features(setting):
    learner, trajectories = setting
    trajectory = trajectories[0]
    mine = learner({"aux": Head()}, make("cosine"))
    agent, head = copy.deepcopy(mine.agent), copy.deepcopy(mine.heads["aux"])
    metrics = mine.update(trajectory)
    output, valid = agent.unroll(trajectory), trajectory.valid
    losses = [
        main_losses(output, trajectory)[valid].mean(),
        head(agent, output, trajectory, None).loss[valid].mean(),
    ]
    at = [torch.autograd.grad(loss, output.features, retain_graph=True)[0] for loss in losses]
    cosine = torch.cosine_similarity(at[0].flatten(), at[1].flatten(), dim=0)
    assert_close(metrics["aux/cosine"], cosine)
    assert -0.99 < cosine < 0.99
    assert cosine != 0
    total = losses[0] + cosine.clamp(min=0.0).detach() * losses[1]
    shared = [*agent.torso.parameters()]
    expected = torch.autograd.grad(total, shared)
    for parameter, gradient in zip(mine.agent.torso.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient)


def test_a_closed_gate_leaves_the_agent_as_if_it_were_alone(setting):
    learner, trajectories = setting
    alone = learner({}, make("cosine"), GatingConfig())
    gated = learner({"aux": Opponent()}, make("cosine"))
    update_all(alone, trajectories)
    metrics = update_all(gated, trajectories)
    assert all(each["aux/passed"] == 0 for each in metrics)
    for x, y in zip(agent_numbers(gated), agent_numbers(alone), strict=True):
        assert_close(x, y)


@pytest.mark.parametrize("scope", ["layer", "tensor"])
def test_a_narrower_scope_weighs_features_and_the_layers_above_apart(setting, scope):
    learner, trajectories = setting
    mine = learner({"aux": Head(), "opponent": Opponent()}, make("cosine"),
                   GatingConfig(scope, at="features"))  # fmt: skip
    mine.update(trajectories[0])
    blocks = 1 + (mine.agent.core is not None)  # of features
    blocks += 2 if scope == "layer" else 4  # of policy and value
    assert mine.gating.state_dict()["gate_weights"].shape == (blocks, 3)


@pytest.mark.parametrize(
    "gating",
    [GatingConfig(at="features", every=2), GatingConfig(at="features", main="policy"), AT],
    ids=["every 2", "main policy", "plain"],
)
def test_it_goes_on_exactly_from_a_checkpoint(setting, gating):
    learner, trajectories = setting
    algorithm = PPOConfig(epochs=2, minibatches=2).build(discount=0.9)
    made = [learner(heads(), make("cosine"), gating, algorithm) for _ in range(2)]
    update_all(made[0], trajectories[:2])
    made[1].load_state_dict(copy.deepcopy(made[0].state_dict()))
    update_all(made[0], trajectories[2:])
    update_all(made[1], trajectories[2:])
    assert same(numbers(made[0].state_dict()), numbers(made[1].state_dict()))
    assert all(gradient.isfinite().all() for gradient in agent_numbers(made[0]))


def test_an_update_runs_backward_through_the_torso_once(setting):
    learner, trajectories = setting
    mine = learner(heads(), make("cosine"))
    passes = []

    def watch(layer, arguments, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: passes.append(1))

    [*mine.agent.torso.children()][-1].register_forward_hook(watch)
    mine.update(trajectories[0])
    assert len(passes) == 1


def test_a_head_with_a_coefficient_of_zero_changes_nothing(setting):
    learner, trajectories = setting
    head = Head()
    head.coefficient = Schedule(0.0, 0.0, 0)
    mine, alone = (
        learner({"aux": head}, make("cosine")),
        learner({}, make("cosine"), GatingConfig()),
    )
    update_all(mine, trajectories)
    update_all(alone, trajectories)
    for x, y in zip(agent_numbers(mine), agent_numbers(alone), strict=True):
        assert_close(x, y)


def test_the_cut_output_has_the_same_numbers_and_no_graph_below(setting):
    learner, trajectories = setting
    agent = learner({}, make("cosine"), GatingConfig()).agent
    output = agent.unroll(trajectories[0])
    cut = FeatureView(agent, output, 2, "shared").outputs[1]
    for name, expected in vars(output).items():
        if expected is not None:
            assert torch.equal(getattr(cut, name), expected)
    assert torch.autograd.grad(cut.value.sum(), [*agent.torso.parameters()], allow_unused=True) == (
        None,
    ) * len([*agent.torso.parameters()])
