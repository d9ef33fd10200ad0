import pytest
from torch.testing import assert_close

from agents.algorithms import A2CConfig
from agents.learning.step_loss import StepLoss, averaged_of, main_terms, step_losses


@pytest.fixture
def made(build_trajectory, build_agent, catch):
    """The terms of a trajectory with two invalid steps, its agent's loss, and its mask."""
    algorithm = A2CConfig(value_coefficient=0.5, entropy_coefficient=0.1).build(0.9)
    trajectory = build_trajectory(
        shape=catch.spec.observation_shape, actions=3, terminated=[(0, 1)], truncated=[(1, 0)]
    )
    output = build_agent(catch.spec)(trajectory.observation)
    loss = algorithm.loss(output, trajectory)
    averaged, _ = step_losses(averaged_of(loss, trajectory.valid))
    terms, metrics = main_terms(loss, averaged, algorithm)
    return terms, metrics, loss, trajectory.valid


def test_the_whole_is_weighed_by_the_algorithm_over_the_valid_steps(made):
    terms, _, loss, valid = made
    assert (~valid).sum() == 2
    steps = loss.policy + 0.5 * loss.value - 0.1 * loss.entropy
    assert_close(terms.whole.share, steps[valid].mean())
    assert_close(terms.whole.steps, steps)
    assert terms.whole.valid is valid


def test_its_terms_are_policy_value_and_the_bonus_taken_off(made):
    terms, _, loss, valid = made
    assert_close(terms.policy.share, loss.policy[valid].mean())
    assert_close(terms.value.share, 0.5 * loss.value[valid].mean())
    assert_close(terms.entropy.share, -0.1 * loss.entropy[valid].mean())
    for part in (terms.whole, terms.actor, terms.policy, terms.value, terms.entropy):
        assert_close(StepLoss.of(part.steps, valid).share, part.share)
        assert_close(part.mean, part.share.detach())


@pytest.mark.parametrize("part", ["all", "policy", "return"])
def test_the_part_compared_with_and_the_rest_are_the_whole(made, part):
    terms, _, loss, _ = made
    compared, rest = terms.divided(part)
    expected = loss.policy
    if part != "return":
        expected = expected - 0.1 * loss.entropy
    if part == "all":
        expected = expected + 0.5 * loss.value
    assert_close(compared.steps, expected)
    if rest is None:
        assert part == "all"
    else:
        assert_close(compared.steps + rest.steps, terms.whole.steps)
        assert_close(compared.share + rest.share, terms.whole.share)


def test_what_is_logged_is_not_weighed(made):
    _, metrics, loss, valid = made
    assert_close(metrics["policy_loss"], loss.policy[valid].mean().detach())
    assert_close(metrics["value_loss"], loss.value[valid].mean().detach())
    assert_close(metrics["entropy"], loss.entropy[valid].mean().detach())
    assert "approximate_kl" in metrics
