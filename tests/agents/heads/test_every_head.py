"""What every registered head keeps; a new one is covered by being registered."""

from dataclasses import fields, replace

import pytest
import torch

from agents.heads import Heads
from agents.masked import masked_mean

NAMES = [head.name for head in fields(Heads)]


@pytest.fixture(params=NAMES)
def head(request, context):
    return getattr(Heads(), request.param).build(context)


@pytest.fixture
def trajectory(build_trajectory):
    """Environment 0 is cut at step 0, environment 1 terminates at step 1; the next is invalid."""
    return build_trajectory(truncated=[(0, 0)], terminated=[(1, 1)])


def evaluate(head, agent, trajectory):
    targets = head.prepare(agent, trajectory)
    return head(agent, agent(trajectory.observation), trajectory, targets)


def changed(trajectory, steps, observations):
    """Copies a trajectory with other actions and rewards at `steps` and other `observations`.

    Both select [time, environment].
    """
    action, reward = trajectory.action.clone(), trajectory.reward.clone()
    observation = trajectory.observation.clone()
    action[steps] = 3 - action[steps]
    reward[steps] += 10.0
    observation[observations] += 10.0
    return replace(trajectory, action=action, reward=reward, observation=observation)


def entries(result, trajectory):
    """The loss of every step, or a skip for heads of another shape."""
    if result.loss.shape != trajectory.valid.shape:
        pytest.skip("this head has no loss per step")
    return torch.where(result.valid, result.loss, 0.0)


def test_the_loss_is_finite_and_has_a_mask_of_its_shape(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    assert result.valid.shape == result.loss.shape
    assert result.valid.any()
    assert result.loss[result.valid].isfinite().all()
    assert result.loss.dtype == torch.float32


def test_a_loss_per_step_counts_valid_steps_alone(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    entries(result, trajectory)
    assert not (result.valid & ~trajectory.valid).any()


def test_the_loss_has_the_sign_it_declares(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    assert not head.non_negative or (result.loss[result.valid] >= 0).all()


def test_the_loss_reaches_the_parts_it_declares_and_no_other(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    masked_mean(result.loss, result.valid).backward()
    assert head.trains
    for name, part in agent.parts.items():
        reached = all(p.grad is not None and p.grad.any() for p in part.parameters())
        untouched = all(p.grad is None or not p.grad.any() for p in part.parameters())
        assert reached if name in head.trains else untouched, name


def test_the_loss_trains_all_parameters_of_the_head_and_none_of_the_teacher(
    head, agent, trajectory, teacher
):
    result = evaluate(head, agent, trajectory)
    masked_mean(result.loss, result.valid).backward()
    assert all(p.grad is not None for p in head.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_parameters_of_a_head_are_its_own(head, agent, teacher):
    others = {id(p) for module in (agent, teacher) for p in module.parameters()}
    assert not others & {id(p) for p in head.parameters()}
    saved = {t.data_ptr() for t in head.state_dict().values() if isinstance(t, torch.Tensor)}
    assert not saved & {p.data_ptr() for module in (agent, teacher) for p in module.parameters()}


def test_targets_carry_no_gradient(head, agent, trajectory):
    targets = head.prepare(agent, trajectory)
    tensors = [value for value in vars(targets).values() if isinstance(value, torch.Tensor)]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_metrics_are_scalars_without_gradient(head, agent, trajectory):
    for value in evaluate(head, agent, trajectory).metrics.values():
        assert value.shape == ()
        assert not value.requires_grad


def test_nothing_after_an_end_reaches_the_loss_before_it(head, agent, trajectory):
    expected = entries(evaluate(head, agent, trajectory), trajectory)
    # Environment 0: observation[1] is the true last one, so the next episode has the rest.
    after = changed(trajectory, (slice(1, None), 0), (slice(2, None), 0))
    after = changed(after, (slice(2, None), 1), (slice(3, None), 1))
    result = entries(evaluate(head, agent, after), trajectory)
    torch.testing.assert_close(result[:1, 0], expected[:1, 0])
    torch.testing.assert_close(result[:2, 1], expected[:2, 1])


def test_nothing_before_an_end_reaches_the_loss_after_it(head, agent, trajectory):
    expected = entries(evaluate(head, agent, trajectory), trajectory)
    before = changed(trajectory, (slice(0, 2), 0), (slice(0, 2), 0))
    result = entries(evaluate(head, agent, before), trajectory)
    torch.testing.assert_close(result[2, 0], expected[2, 0])


def test_no_environment_reaches_the_loss_of_another(head, agent, trajectory):
    expected = entries(evaluate(head, agent, trajectory), trajectory)
    every = slice(None)
    result = evaluate(head, agent, changed(trajectory, (every, 0), (every, 0)))
    torch.testing.assert_close(entries(result, trajectory)[:, 1], expected[:, 1])


def test_actions_and_rewards_of_invalid_steps_do_not_count(head, agent, trajectory):
    expected = evaluate(head, agent, trajectory)
    nowhere = torch.zeros(4, 2, dtype=torch.bool)
    result = evaluate(head, agent, changed(trajectory, ~trajectory.valid, nowhere))
    assert torch.equal(
        masked_mean(result.loss, result.valid), masked_mean(expected.loss, expected.valid)
    )
    for name, value in result.metrics.items():
        assert torch.equal(value, expected.metrics[name])


@pytest.mark.parametrize(("length", "batch"), [(1, 2), (3, 1), (1, 1)])
def test_one_step_and_one_environment_are_enough(head, agent, build_trajectory, length, batch):
    result = evaluate(head, agent, build_trajectory(length=length, batch=batch))
    loss = masked_mean(result.loss, result.valid)
    assert loss.isfinite()
    loss.backward()


def test_no_valid_step_is_no_loss(head, agent, build_trajectory):
    trajectory = build_trajectory(length=1)
    trajectory = replace(trajectory, valid=torch.zeros_like(trajectory.valid))
    result = evaluate(head, agent, trajectory)
    assert masked_mean(result.loss, result.valid) == 0.0
    assert all(value.isfinite() for value in result.metrics.values())


def test_a_head_leaves_agent_trajectory_and_global_random_numbers_alone(head, agent, trajectory):
    weights = [p.detach().clone() for p in agent.parameters()]
    numbers = [value.clone() for value in vars(trajectory).values() if value is not None]
    state = torch.get_rng_state()
    evaluate(head, agent, trajectory)
    head.after_update(agent)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, weights, agent.parameters()))
    now = [value for value in vars(trajectory).values() if value is not None]
    assert all(map(torch.equal, numbers, now))
