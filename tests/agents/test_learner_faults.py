"""Whatever the gate: one head that is not finite harms nobody else."""

import pytest

from agents.gates import Gates, make
from agents.learning.gating import GatingConfig
from tests.agents.updating import Faulty, Head, agent_numbers, collect, numbers, same

OPTIONS = {"significant": {"slices": 3}}
UPDATES = 4


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
@pytest.mark.parametrize("gate", vars(Gates()))
def test_a_head_that_is_not_finite_harms_nobody_else(
    build_learner, build_catch, build_agent, gate, fault, every
):
    env = build_catch(3)
    collected = collect(env, build_agent(env.spec), UPDATES)
    heads = {"aux": Faulty(fault), "sound": Head()}
    learner = build_learner(
        heads, make(gate, **OPTIONS.get(gate, {})), gating=GatingConfig(every=every)
    )
    first = numbers(learner.heads["aux"].state_dict())
    for trajectory in collected:
        before = agent_numbers(learner), numbers(learner.heads["sound"].state_dict())
        metrics = learner.update(trajectory)
        assert all(tensor.isfinite().all() for tensor in agent_numbers(learner))
    # A gradient is seen when its update is made: at worst that update was lost.
    assert metrics["aux/dropped"] == 1.0
    assert metrics["sound/dropped"] == 0.0
    assert metrics["skipped"] <= float(fault == "gradient")
    assert not same(before[0], agent_numbers(learner))
    assert not same(before[1], numbers(learner.heads["sound"].state_dict()))
    assert same(first, numbers(learner.heads["aux"].state_dict()))
