"""The network sees each slice apart; losses do not notice, and gradients are those of all."""

import pytest
import torch
from torch.testing import assert_close

from agents.learning.step_loss import StepLoss
from agents.learning.views import SlicedView
from tests.agents.updating import collect, main_losses

MEMORY = 5


@pytest.fixture(params=[0, MEMORY], ids=["no core", "core"])
def played(request, build_catch, build_agent, opinionated):
    """An agent, and a trajectory of five environments that began in the midst of episodes."""
    env = build_catch(num_envs=5)
    agent = opinionated(build_agent(env.spec, memory=request.param))
    return agent, collect(env, agent, 2)[1]


def of_all(agent, loss):
    found = torch.autograd.grad(
        loss, list(agent.parameters()), allow_unused=True, retain_graph=True
    )
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def test_the_output_is_that_of_all_environments(played):
    agent, trajectory = played
    plain, cut = agent.unroll(trajectory), SlicedView(agent, trajectory, 3).output
    for name, expected in vars(plain).items():
        if expected is None:
            assert getattr(cut, name) is None
        else:
            assert_close(getattr(cut, name), expected)


def test_a_reattached_loss_has_the_gradient_of_the_whole_network(played):
    agent, trajectory = played
    slices = SlicedView(agent, trajectory, 3)
    loss = main_losses(slices.output, trajectory).mean()
    assert all(not gradient.any() for gradient in of_all(agent, loss))
    expected = of_all(agent, main_losses(agent.unroll(trajectory), trajectory).mean())
    for mine, theirs in zip(of_all(agent, slices.reattached(loss)), expected, strict=True):
        assert_close(mine, theirs)


def step_loss(steps):
    return StepLoss.of(steps, torch.ones_like(steps, dtype=torch.bool))


def test_the_split_of_a_loss_is_by_environments(played):
    agent, trajectory = played
    slices = SlicedView(agent, trajectory, 3)
    parts = slices.split(step_loss(main_losses(slices.output, trajectory)))
    # Five environments in three slices: 0 1 | 2 3 | 4.
    for part, chosen in zip(parts, ([0, 1], [2, 3], [4]), strict=True):
        steps = main_losses(agent.unroll(trajectory), trajectory)
        expected = of_all(agent, steps[:, chosen].sum() / steps.numel())
        for mine, theirs in zip(of_all(agent, part), expected, strict=True):
            assert_close(mine, theirs)


def added(gradients):
    return [torch.stack(each).sum(0) for each in zip(*gradients, strict=True)]


def test_slices_add_up_though_a_loss_couples_environments(played):
    agent, trajectory = played
    slices = SlicedView(agent, trajectory, 3)

    def coupled(output):
        features = output.features[:-1]
        return (features * features.mean(1, keepdim=True)).sum(-1)

    parts = [of_all(agent, part) for part in slices.split(step_loss(coupled(slices.output)))]
    expected = of_all(agent, coupled(agent.unroll(trajectory)).mean())
    for mine, theirs in zip(added(parts), expected, strict=True):
        assert_close(mine, theirs)


def test_slices_add_up_though_a_loss_is_of_columns_of_its_own(played):
    # Seven columns of which the output knows nothing.
    agent, trajectory = played
    slices = SlicedView(agent, trajectory, 3)
    steps = torch.arange(14.0).view(2, 7) * agent.policy.weight.square().sum()
    parts = [of_all(agent, part) for part in slices.split(step_loss(steps))]
    for mine, theirs in zip(added(parts), of_all(agent, steps.mean()), strict=True):
        assert_close(mine, theirs)
    # 0 1 2 | 3 4 | 5 6, numbered 0 to 6 and 7 to 13: the second has 28 of 91.
    weight = [name for name, _ in agent.named_parameters()].index("policy.weight")
    assert_close(parts[1][weight], 28 / 91 * of_all(agent, steps.mean())[weight])


def test_what_a_loss_makes_of_the_agent_by_itself_counts_too(played):
    agent, trajectory = played
    slices = SlicedView(agent, trajectory, 3)

    def both(output):
        return output.logits.square().mean() + agent.policy.weight.square().sum()

    expected = of_all(agent, both(agent.unroll(trajectory)))
    for mine, theirs in zip(
        of_all(agent, slices.reattached(both(slices.output))), expected, strict=True
    ):
        assert_close(mine, theirs)


def test_a_loss_without_a_graph_has_parts_without_one(played):
    slices = SlicedView(*played, 2)
    steps = torch.ones(5, 5)
    assert not slices.reattached(steps.mean()).requires_grad
    # Columns 0 1 2 | 3 4 of five.
    assert_close(torch.stack(slices.split(step_loss(steps))), torch.tensor([0.6, 0.4]))


def test_a_slice_costs_a_pass_through_its_own_environments_alone(played):
    agent, trajectory = played
    seen = []
    # Called with the module and the gradients of its inputs and outputs [N, B, 1].
    agent.value.register_full_backward_hook(lambda *called: seen.append(called[2][0].shape[1]))
    slices = SlicedView(agent, trajectory, 5)
    parts = slices.split(step_loss(main_losses(slices.output, trajectory)))
    parts[3].backward()
    assert seen == [1]
