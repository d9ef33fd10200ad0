"""What every registered head keeps; a new one is covered by being registered."""

import copy
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from agents.gates import make
from agents.heads import Heads
from agents.learning.learner import Learner
from agents.runtime.checkpoint import flatten, unflatten
from agents.statistics import masked_mean
from gridworld import OptionError
from tests.agents.heads.settings import KINDS, B, T, changed, evaluate, make_setting
from tests.agents.updating import A2C, CONFIG, numbers, same
from tests.pages import page

ROOT = Path(__file__).resolve().parents[3]
NAMES = [head.name for head in fields(Heads)]


def fits(name, kind):
    try:
        make_setting(kind).build(name)
    except ValueError:
        return False
    return True


def is_per_step(name, kind):
    setting = make_setting(kind)
    return evaluate(setting.build(name), setting.agent, setting.uneventful()).loss.shape == (T, B)


PAIRS = [(name, kind) for name in NAMES for kind in KINDS if fits(name, kind)]
PER_STEP = [pair for pair in PAIRS if is_per_step(*pair)]
FIRST = [next(pair for pair in PAIRS if pair[0] == name) for name in NAMES]
each = pytest.mark.parametrize(("name", "kind"), PAIRS, indirect=["kind"])
each_per_step = pytest.mark.parametrize(("name", "kind"), PER_STEP, indirect=["kind"])
each_once = pytest.mark.parametrize(("name", "kind"), FIRST, indirect=["kind"])


@pytest.fixture
def kind(request):
    return request.param


@pytest.fixture
def setting(kind):
    return make_setting(kind)


@pytest.fixture
def agent(setting):
    return setting.agent


@pytest.fixture
def head(name, setting):
    return setting.build(name)


@pytest.fixture
def trajectory(setting, build_trajectory):
    """Environment 0 is cut at step 0, environment 1 terminates at step 1; the next is invalid."""
    return setting.fill(build_trajectory(truncated=[(0, 0)], terminated=[(1, 1)]))


def loss_of(result):
    return masked_mean(result.loss, result.valid)


def entries(result):
    """The loss of every step; 0 where it does not count."""
    return torch.where(result.valid, result.loss, 0.0)


def assert_same(result, expected):
    """Bit for bit; NaN is "not measured"."""
    assert torch.equal(loss_of(result), loss_of(expected))
    assert result.metrics.keys() == expected.metrics.keys()
    for name, value in result.metrics.items():
        assert_close(value, expected.metrics[name], rtol=0, atol=0, equal_nan=True)


@each
def test_the_loss_is_finite_and_has_a_mask_of_its_shape(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    assert result.valid.shape == result.loss.shape
    assert result.valid.any()
    assert result.loss[result.valid].isfinite().all()
    assert result.loss.dtype == torch.float32


@each_per_step
def test_a_loss_per_step_counts_valid_steps_alone(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    assert not (result.valid & ~trajectory.valid).any()


@each
def test_the_loss_has_the_sign_it_declares(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    assert not head.non_negative or (result.loss[result.valid] >= 0).all()


@each
def test_the_loss_reaches_the_parts_it_declares_and_no_other(head, agent, trajectory):
    result = evaluate(head, agent, trajectory)
    loss_of(result).backward()
    assert head.trains
    for name, part in agent.parts.items():
        reached = [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        if name not in head.trains:
            assert not any(reached), name
        elif name == "torso" and agent.torso.spatial_shape is not None:
            # A head may start from the feature map, which comes before the last layer.
            assert all(reached[:-2]), name
        else:
            assert all(reached), name


@each
def test_the_loss_trains_all_parameters_of_the_head_and_nothing_else_that_it_holds(
    head, agent, trajectory, setting
):
    loss_of(evaluate(head, agent, trajectory)).backward()
    assert all(p.grad is not None for p in head.parameters())
    assert all(p.grad is None for p in setting.teacher.parameters())
    assert not any(buffer.requires_grad for buffer in head.buffers())


@each_once
def test_the_parameters_of_a_head_are_its_own(head, agent, setting):
    modules = (agent, setting.teacher)
    others = {id(p) for module in modules for p in module.parameters()}
    assert not others & {id(p) for p in head.parameters()}
    saved = {t.data_ptr() for t in head.state_dict().values() if isinstance(t, torch.Tensor)}
    assert not saved & {p.data_ptr() for module in modules for p in module.parameters()}


@each_once
def test_targets_carry_no_gradient(head, agent, trajectory):
    targets = head.prepare(agent, trajectory)
    tensors = [value for value in vars(targets).values() if isinstance(value, torch.Tensor)]
    assert not any(tensor.requires_grad for tensor in tensors)


@each_once
def test_metrics_are_scalars_without_gradient(head, agent, trajectory):
    for value in evaluate(head, agent, trajectory).metrics.values():
        assert value.shape == ()
        assert not value.requires_grad


@each_per_step
def test_nothing_after_an_end_reaches_the_loss_before_it(name, setting, agent, trajectory):
    expected = entries(evaluate(setting.build(name), agent, trajectory))
    # Environment 0: observation[1] is the true last one, so the next episode has the rest.
    after = changed(setting, trajectory, (slice(1, None), 0), (slice(2, None), 0))
    after = changed(setting, after, (slice(2, None), 1), (slice(3, None), 1))
    result = entries(evaluate(setting.build(name), agent, after))
    assert_close(result[:1, 0], expected[:1, 0])
    assert_close(result[:2, 1], expected[:2, 1])


@each_per_step
def test_nothing_before_an_end_reaches_the_loss_after_it(name, setting, agent, trajectory):
    expected = entries(evaluate(setting.build(name), agent, trajectory))
    before = changed(setting, trajectory, (slice(0, 2), 0), (slice(0, 2), 0))
    result = entries(evaluate(setting.build(name), agent, before))
    assert_close(result[2, 0], expected[2, 0])


@each_per_step
def test_no_environment_reaches_the_loss_of_another(name, setting, agent, trajectory):
    expected = entries(evaluate(setting.build(name), agent, trajectory))
    every = slice(None)
    other = changed(setting, trajectory, (every, 0), (every, 0))
    result = evaluate(setting.build(name), agent, other)
    assert_close(entries(result)[:, 1], expected[:, 1])


@each
def test_what_no_valid_step_sees_does_not_count(name, setting, agent, build_trajectory):
    # Both end at step 1, so step 2 is invalid and observation[3] is of another episode.
    trajectory = setting.fill(build_trajectory(truncated=[(1, 0)], terminated=[(1, 1)]))
    expected = evaluate(setting.build(name), agent, trajectory)
    other = changed(setting, trajectory, slice(2, None), slice(3, None))
    assert_same(evaluate(setting.build(name), agent, other), expected)


@each
def test_actions_and_rewards_of_invalid_steps_do_not_count(name, setting, agent, trajectory):
    expected = evaluate(setting.build(name), agent, trajectory)
    nowhere = torch.zeros(T + 1, B, dtype=torch.bool)
    other = changed(setting, trajectory, ~trajectory.valid, nowhere)
    assert_same(evaluate(setting.build(name), agent, other), expected)


@each
@pytest.mark.parametrize(("length", "batch"), [(1, 2), (3, 1), (1, 1)])
def test_one_step_and_one_environment_are_enough(name, kind, build_trajectory, length, batch):
    setting = make_setting(kind, unroll_length=length)
    trajectory = setting.fill(build_trajectory(length=length, batch=batch))
    loss = loss_of(evaluate(setting.build(name), setting.agent, trajectory))
    assert loss.isfinite()
    loss.backward()


@each
def test_no_valid_step_is_no_loss(head, agent, setting, build_trajectory):
    trajectory = setting.fill(build_trajectory(length=1))
    trajectory = replace(trajectory, valid=torch.zeros_like(trajectory.valid))
    result = evaluate(head, agent, trajectory)
    assert loss_of(result) == 0.0
    assert not any(value.isinf() for value in result.metrics.values())  # NaN: not measured


@each
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


@each
def test_in_bfloat16_the_loss_is_about_the_same_and_still_float32(name, setting, trajectory):
    expected = evaluate(setting.build(name), setting.agent, trajectory)
    setting.agent.precision = "bf16"
    result = evaluate(setting.build(name), setting.agent, trajectory)
    assert result.loss.dtype == torch.float32
    # Eight bits of mantissa: 0.4 % an operation, several in a row; terms may cancel.
    scale = masked_mean(expected.loss.abs(), expected.valid)
    assert (loss_of(result) - loss_of(expected)).abs() < 0.05 * scale
    loss_of(result).backward()


@each
def test_a_minibatch_of_all_environments_is_the_whole(name, setting, agent, trajectory):
    head = setting.build(name)
    targets = head.prepare(agent, trajectory)
    expected = head(agent, agent.unroll(trajectory), trajectory, targets)
    everyone = torch.arange(B)
    batch = trajectory.select(everyone)
    result = head(agent, agent.unroll(batch), batch, targets.select(everyone))
    assert_same(result, expected)


@each_per_step
def test_a_minibatch_of_one_environment_has_its_losses(name, setting, agent, trajectory):
    head = setting.build(name)
    targets = head.prepare(agent, trajectory)
    whole = entries(head(agent, agent.unroll(trajectory), trajectory, targets))
    for environment in range(B):
        one = torch.tensor([environment])
        batch = trajectory.select(one)
        result = head(agent, agent.unroll(batch), batch, targets.select(one))
        assert_close(entries(result)[:, 0], whole[:, environment])


def shifted(agent):
    """As after an update: momentum copies are no longer equal to what they follow."""
    other = copy.deepcopy(agent)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1
    return other


@each
def test_a_saved_head_goes_on_exactly(name, setting, agent, trajectory, build_trajectory):
    head = setting.build(name)
    evaluate(head, agent, trajectory)
    head.after_update(shifted(agent))
    # As a checkpoint would hold it.
    tensors, rest = flatten(head.state_dict())
    saved = json.dumps(rest), {key: tensor.clone() for key, tensor in tensors.items()}
    restored = setting.build(name)
    restored.load_state_dict(unflatten(saved[1], json.loads(saved[0])))
    later = setting.fill(build_trajectory(terminated=[(0, 1)], seed=5))
    for _ in range(2):
        assert_same(evaluate(restored, agent, later), evaluate(head, agent, later))


@each_once
def test_a_learner_updates_with_it_and_a_resumed_one_goes_on_exactly(
    name, setting, build_trajectory
):
    trajectories = [setting.fill(build_trajectory(terminated=[(1, 0)], seed=i)) for i in range(3)]

    def learner():
        agent = copy.deepcopy(setting.agent)
        return Learner(agent, A2C, {name: setting.build(name)}, make("cosine"), CONFIG)

    whole, parted, resumed = learner(), learner(), learner()
    expected = [whole.update(trajectory) for trajectory in trajectories]
    for trajectory in trajectories[:2]:
        parted.update(trajectory)
    resumed.load_state_dict(copy.deepcopy(parted.state_dict()))
    assert same(numbers(resumed.update(trajectories[2])), numbers(expected[2]))
    assert same(numbers(resumed.state_dict()), numbers(whole.state_dict()))


@pytest.mark.parametrize("name", NAMES)
def test_every_head_fits_somewhere_and_owns_up_to_what_it_does_not_fit(name):
    kinds = [kind for other, kind in PAIRS if other == name]
    assert kinds
    options = "|".join(option.name for option in fields(getattr(Heads(), name)))
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(OptionError, match=rf"^(aux {name}|{options}) ") as error:
            make_setting(kind).build(name)
        assert str(error.value).endswith(".")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_head_has_a_page(name):
    page("heads", name, "termination")


COMPILED = """
import torch
from gridworld import OptionError
from tests.agents.heads.settings import evaluate, make_setting
from tests.agents.heads.test_every_head import FIRST, loss_of

for kind in sorted({kind for _, kind in FIRST}):
    setting = make_setting(kind)
    names, trajectory = [name for name, its in FIRST if its == kind], setting.uneventful()
    expected = [loss_of(evaluate(setting.build(n), setting.agent, trajectory)) for n in names]
    heads = [setting.build(name) for name in names]  # first the heads, as in a run
    setting.agent.torso.compile(backend="aot_eager")
    for head, loss in zip(heads, expected, strict=True):
        result = loss_of(evaluate(head, setting.agent, trajectory))
        torch.testing.assert_close(result, loss)
        result.backward()
        head.after_update(setting.agent)
"""
"""Runs in a process of its own: the compiler does not follow the shape checks of this one."""


@pytest.mark.slow
def test_they_agree_with_a_compiled_torso():
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=ROOT)
