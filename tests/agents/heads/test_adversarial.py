from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import A2CConfig
from agents.gates import make
from agents.heads import Heads
from agents.heads.adversarial import AdversarialConfig
from agents.learning.learner import Learner
from agents.rollout.collector import Collector
from agents.runtime.random import generator
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput
from tests.agents.updating import A2C, CONFIG, collect
from tests.agents.updating import T as UNROLL

T, B, A, F = 3, 2, 4, 5


@pytest.fixture
def build(context):
    def build(**options):
        return AdversarialConfig(**options).build(context)

    return build


@pytest.mark.parametrize("normalize", [False, True])
def test_it_is_the_loss_of_a2c_with_the_opposite_sign(
    build, agent, build_trajectory, normalize, context
):
    trajectory = build_trajectory(terminated=[(0, 0)], truncated=[(1, 1)])
    output = agent(trajectory.observation)
    main = A2CConfig(normalize_advantage=normalize).build(context.discount)
    parts = main.loss(output, trajectory)
    assert (main.value_coefficient, main.entropy_coefficient) == (0.5, 0.01)
    expected = {
        "main": -(parts.policy + 0.5 * parts.value - 0.01 * parts.entropy),
        "policy": -parts.policy,
    }
    for negates, loss in expected.items():
        head = build(negates=negates, normalize_advantage=normalize)
        result = head(agent, output, trajectory, head.prepare(agent, trajectory))
        assert_close(result.loss, loss)


def test_its_gradient_is_the_opposite_of_the_main_one_over_all_shared_parameters(
    build_agent, build_catch, context
):
    env = build_catch()
    agent = build_agent(env.spec)
    head = AdversarialConfig().build(replace(context, discount=0.9))
    gate = make("projection")
    learner = Learner(agent, A2C, {"adversarial": head}, gate, CONFIG)
    metrics = learner.update(collect(env, agent, 1)[0])
    assert_close(metrics["adversarial/cosine"], torch.tensor(-1.0))
    assert_close(metrics["adversarial/norm_ratio"], torch.tensor(2.0))
    # Whatever removes what points against the main gradient leaves nothing.
    assert metrics["adversarial/passed"] < 1e-3


def test_its_gradient_pushes_good_actions_away_by_their_advantage(build, agent, build_trajectory):
    # One step that terminates, reward 2, value 0.5, two of four actions equally likely before:
    # A = 1.5, and d(A log pi) / d logits = A (1_a - pi).
    trajectory = build_trajectory(length=1, batch=1, terminated=[(0, 0)])
    trajectory.reward[:] = 2.0
    trajectory.action[:] = 1
    trajectory.log_probability[:] = torch.tensor(0.25).log()
    logits = torch.zeros(2, 1, A, requires_grad=True)
    torch.nn.init.constant_(agent.value.bias, 0.5)  # features are zero
    features = torch.zeros(2, 1, F)
    head = build(negates="policy")
    result = head(
        agent,
        AgentOutput(None, features, features, logits, torch.full((2, 1), 0.5)),
        trajectory,
        head.prepare(agent, trajectory),
    )
    result.loss.sum().backward()
    expected = 1.5 * (torch.tensor([0.0, 1.0, 0.0, 0.0]) - 0.25)
    assert_close(logits.grad[0, 0], expected)
    assert agent.value.bias.grad is None
    assert_close(result.metrics["better_actions"], torch.tensor(0.25))


def test_actions_that_are_better_are_told_by_valid_steps_alone(build, agent, build_trajectory):
    trajectory = build_trajectory(terminated=[(0, 0)])
    output = agent(trajectory.observation)
    head = build(negates="policy")
    result = head(agent, output, trajectory, head.prepare(agent, trajectory))
    policy = output.logits[:-1].softmax(-1)
    chosen = policy.gather(-1, trajectory.action.unsqueeze(-1)).squeeze(-1)
    # The loss is A log pi, and log pi is negative.
    better = trajectory.valid & (result.loss < 0)
    assert 0 < better.sum() < trajectory.valid.sum()
    assert_close(result.metrics["better_actions"], masked_mean(chosen, better).detach())


@pytest.mark.parametrize("coefficient", [-1.0, float("inf"), float("nan")])
def test_a_senseless_coefficient_is_refused_by_its_name(coefficient):
    with pytest.raises(ValueError, match=r"^coefficient"):
        AdversarialConfig(coefficient=coefficient)


def test_it_harms_the_sum_by_default(build):
    # Above 1 it outweighs the policy gradient that it negates.
    assert Heads().adversarial.coefficient > 1
    assert build().coefficient(0) == Heads().adversarial.coefficient


@pytest.fixture
def mean_reward(build_agent, build_catch, context):
    """Learns small boards of Catch for a hundred updates; the mean reward of the last ten."""

    def mean_reward(gate):
        env = build_catch(num_envs=32)
        agent = build_agent(env.spec)
        head = AdversarialConfig().build(replace(context, discount=0.9))
        config = replace(CONFIG, learning_rate=0.03, total_steps=10**9)
        learner = Learner(agent, A2C, {"adversarial": head}, make(gate), config)
        acting = generator(0, "acting", env.device)
        collector = Collector(env, agent, acting, UNROLL)
        rewards = []
        for _ in range(100):
            trajectory = collector.collect()
            learner.update(trajectory)
            # Of 1 or -1 at the end of each episode of two steps.
            rewards.append(trajectory.reward[trajectory.terminated].mean())
        return torch.stack(rewards[-10:]).mean()

    return mean_reward


def test_summed_it_makes_the_agent_miss_and_gated_it_does_not(mean_reward):
    # Chance catches one ball of five: -0.6.
    assert mean_reward("sum") < -0.8
    assert mean_reward("cosine") > 0.8
