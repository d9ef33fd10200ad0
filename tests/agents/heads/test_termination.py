import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.heads.termination import TerminationConfig

T, B = 3, 2


@pytest.fixture
def build(context):
    """Builds the head; with `hazards`, it says the same everywhere."""

    def build(horizon, hazards=None, **options):
        head = TerminationConfig(horizon=horizon, **options).build(context)
        if hazards is not None:
            with torch.no_grad():
                head.hazard.weight.zero_()
                head.hazard.bias.copy_(torch.tensor(hazards).logit())
        return head

    return build


def evaluate(head, agent, trajectory):
    return head(agent, agent(trajectory.observation), trajectory, head.prepare(agent, trajectory))


def known_slowly(trajectory, horizon):
    """What is known and what ends, step by step, as the module's docstring says it."""
    length, batch = trajectory.valid.shape
    known = torch.zeros(length, batch, horizon, dtype=torch.bool)
    ends = torch.zeros_like(known)
    for t in range(length):
        for b in range(batch):
            if not trajectory.valid[t, b]:
                continue
            for j in range(horizon):
                if t + j == length:
                    break
                known[t, b, j] = True
                ends[t, b, j] = trajectory.terminated[t + j, b]
                if trajectory.terminated[t + j, b] or trajectory.truncated[t + j, b]:
                    break
    return known, ends


def test_a_step_that_is_seen_to_go_on_to_its_end_has_a_likelihood_of_all_hazards(
    build, agent, build_trajectory
):
    # Environment 0 terminates at step 1, environment 1 never; hazards 1/2, 1/4, 1/8.
    trajectory = build_trajectory(terminated=[(1, 0)])
    loss = evaluate(build(3, [0.5, 0.25, 0.125]), agent, trajectory).loss
    go, end = -math.log(0.5), -math.log(0.25)
    # (0, 0): goes on, ends one step ahead.  (1, 0): ends now.
    assert_close(loss[:2, 0], torch.tensor([go + end, go]))
    # (0, 1): three steps go on; (1, 1): two are seen, (2, 1): one.
    second, third = -math.log(0.75), -math.log(0.875)
    assert_close(loss[:, 1], torch.tensor([go + second + third, go + second, go]))


def test_a_truncation_is_no_end_and_what_would_follow_is_unknown(build, agent, build_trajectory):
    trajectory = build_trajectory(truncated=[(1, 0)])
    loss = evaluate(build(3, [0.5, 0.25, 0.125]), agent, trajectory).loss
    go, second = -math.log(0.5), -math.log(0.75)
    assert_close(loss[:2, 0], torch.tensor([go + second, go]))


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(st.sampled_from(["", "", "over", "limit"]), min_size=1, max_size=7),
    horizon=st.integers(1, 8),
)
def test_targets_are_what_looking_ahead_step_by_step_finds(
    kinds, horizon, agent, build, build_trajectory
):
    terminated, truncated = [], []
    t = 0
    while t < len(kinds):
        if kinds[t]:
            (terminated if kinds[t] == "over" else truncated).append((t, 0))
            t += 1  # the autoreset is no step that could end
        t += 1
    trajectory = build_trajectory(length=len(kinds), terminated=terminated, truncated=truncated)
    targets = build(horizon).prepare(agent, trajectory)
    known, ends = known_slowly(trajectory, horizon)
    assert torch.equal(targets.known, known)
    assert torch.equal(targets.ends, ends)


def test_what_is_explained_is_measured_against_the_best_constant_hazard(
    build, agent, build_trajectory
):
    # One step ahead: 6 steps of which 1 ends and 1 is invalid.  The best constant is 1 / 5:
    # log-likelihood log 1/5 + 4 log 4/5; hazards of 1/2 everywhere have 5 log 1/2.
    trajectory = build_trajectory(terminated=[(1, 0)])
    assert trajectory.valid.sum() == 5
    constant = -(math.log(0.2) + 4 * math.log(0.8))
    metrics = evaluate(build(1, [0.5]), agent, trajectory).metrics
    assert_close(metrics["explained"], torch.tensor(1 - 5 * math.log(2.0) / constant))
    best = evaluate(build(1, [0.2]), agent, trajectory).metrics
    assert_close(best["explained"], torch.tensor(0.0), atol=1e-6, rtol=0)


def test_without_an_end_there_is_nothing_to_explain(build, agent, build_trajectory):
    assert evaluate(build(2), agent, build_trajectory()).metrics["explained"].isnan()


def test_accuracy_counts_the_steps_whose_future_lies_in_the_trajectory(
    build, agent, build_trajectory
):
    # Two steps ahead of three: only steps 0 and 1 see two steps, whatever happens in them.
    # Environment 0 ends at step 1 (so 0 and 1 are right to expect it), environment 1 never.
    trajectory = build_trajectory(terminated=[(1, 0)])
    # 1 - 0.6 * 0.7 = 0.58: an end within two steps is expected everywhere.
    metrics = evaluate(build(2, [0.4, 0.3]), agent, trajectory).metrics
    assert_close(metrics["base_rate"], torch.tensor(0.5))
    assert_close(metrics["accuracy"], torch.tensor(0.5))
    # 1 - 0.8 * 0.7 = 0.44: nowhere.
    doubtful = build_trajectory(terminated=[(2, 0)])
    metrics = evaluate(build(2, [0.2, 0.3]), agent, doubtful).metrics
    # Of (0, 0), (1, 0), (0, 1), (1, 1) only (1, 0) is followed by an end.
    assert_close(metrics["base_rate"], torch.tensor(0.25))
    assert_close(metrics["accuracy"], torch.tensor(0.75))


def test_a_truncated_future_is_not_counted_as_right_or_wrong(build, agent, build_trajectory):
    trajectory = build_trajectory(batch=1, truncated=[(0, 0)])
    # Steps: cut, invalid, one step that sees no second one: nothing is decided.
    metrics = evaluate(build(2, [0.4, 0.3]), agent, trajectory).metrics
    assert metrics["accuracy"].isnan()
    assert metrics["base_rate"].isnan()


def test_a_horizon_beyond_the_trajectory_still_learns_and_measures_no_accuracy(
    build, agent, build_trajectory
):
    result = evaluate(build(9), agent, build_trajectory(terminated=[(1, 0)]))
    assert result.metrics["accuracy"].isnan()
    assert result.loss.isfinite().all()


def test_the_end_of_catch_is_learnt(build, build_learner, collected):
    # Boards of three rows end after two steps: whoever sees the ball knows when.
    head = build(4, coefficient=1.0)
    learner = build_learner({"termination": head}, gate="sum", total_steps=10**9)
    first = learner.update(collected[0])
    for _ in range(20):
        for trajectory in collected:
            last = learner.update(trajectory)
    assert first["termination/explained"] < 0.1
    assert last["termination/explained"] > 0.9
    assert last["termination/loss"] < 0.2 * first["termination/loss"]


@pytest.mark.parametrize("options", [{"horizon": 0}, {"coefficient": -1.0}])
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        TerminationConfig(**options)
