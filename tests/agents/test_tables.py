from dataclasses import replace

import pytest
import torch

from agents.heads.base import Schedule
from agents.heads.distill import Distill
from agents.rollout.collector import Collector
from agents.teachers import ChangedTeacherError, TableTeacher
from envs.base import VecEnv
from envs.gridworld.config import GridConfig

T, B, A, STATES = 3, 2, 4, 7


class Hidden(VecEnv):
    """Another environment that does not tell its states."""

    def __init__(self, env):
        self._env, self.spec, self.device = env, env.spec, env.device

    def reset(self):
        return self._env.reset()

    def step(self, action):
        return replace(self._env.step(action), state=None)

    def close(self):
        self._env.close()


@pytest.fixture
def build_gridworld():
    """Builds small worlds for B environments."""

    def build_gridworld(seed=0, **options):
        config = GridConfig(height=6, width=7, num_worlds=4, terminal_probability=0.05, **options)
        return config.build("Gridworld", B, seed, torch.device("cpu"))

    return build_gridworld


@pytest.fixture
def collect(build_agent):
    """Plays T steps with a small agent."""

    def collect(env, length=T):
        agent = build_agent(env.spec, memory=3)
        return Collector(env, agent, torch.Generator().manual_seed(0), length).collect()

    return collect


def test_the_row_of_each_state_but_the_last_is_what_the_teacher_says(build_trajectory):
    table = torch.randn(STATES, A)
    state = torch.randint(STATES, (T + 1, B))
    trajectory = replace(build_trajectory(actions=A), state=state)
    logits = TableTeacher(table, "a table")(trajectory)
    assert logits.shape == (T, B, A)
    for t in range(T):
        for b in range(B):
            assert torch.equal(logits[t, b], table[state[t, b]])


def test_a_trajectory_without_states_cannot_be_taught(build_trajectory):
    with pytest.raises(AssertionError, match="only where states are known"):
        TableTeacher(torch.zeros(STATES, A), "a table")(build_trajectory(actions=A))


def test_a_checkpoint_knows_the_worlds_that_its_teacher_was_of():
    heads = [
        Distill(TableTeacher(torch.zeros(STATES, A), origin), 1.0, Schedule(1.0, 1.0, 0))
        for origin in ("optimal of these worlds", "optimal of those worlds")
    ]
    heads[0].load_state_dict(heads[0].state_dict())
    with pytest.raises(ChangedTeacherError):
        heads[1].load_state_dict(heads[0].state_dict())


def test_the_head_reads_the_table_of_the_world_that_is_played(
    build_gridworld, build_agent, collect
):
    env = build_gridworld()
    table = env.teacher_logits("optimal")
    trajectory = collect(env, length=40)
    assert len(trajectory.state.unique()) > 10
    head = Distill(TableTeacher(table, ""), 0.5, Schedule(1.0, 1.0, 0))
    targets = head.prepare(build_agent(env.spec), trajectory)
    expected = (table[trajectory.state[:-1]] / 0.5).softmax(-1)
    torch.testing.assert_close(targets.probabilities, expected)


def test_the_state_never_reaches_the_agent(build_gridworld, collect):
    told, untold = collect(build_gridworld(), 40), collect(Hidden(build_gridworld()), 40)
    assert told.state is not None
    assert untold.state is None
    for name in ("observation", "action", "log_probability", "reward"):
        assert torch.equal(getattr(told, name), getattr(untold, name))
