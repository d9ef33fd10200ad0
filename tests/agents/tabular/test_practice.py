from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.algorithms.returns import gae
from agents.tabular import Practice, SampledConfig, exact_signal, gradients
from agents.tabular.practice import advantages
from gridworld import evaluate

SHORT = SampledConfig(num_envs=2, unroll_length=3)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_those_of_the_network_agent(seed, discount, trace):
    torch.manual_seed(seed)
    reward, value, ended = torch.randn(3, 2), torch.randn(4, 2), torch.rand(3, 2) < 0.3
    wanted = gae(reward, value, ended, torch.zeros_like(ended), discount=discount, trace=trace)
    found = advantages(reward, value, (~ended).float(), discount=discount, trace=trace)
    torch.testing.assert_close(found, wanted)


def test_students_of_one_stream_who_act_alike_fare_alike(build_students):
    students = build_students(world=(1, 1, 1))
    students.logits[1] = students.logits[0]
    students.logits[2] = students.logits[0]
    practice = Practice(students, SHORT, torch.tensor([0, 0, 1]), seed=5)
    for _ in range(4):
        signal = practice.signal()
    assert torch.equal(signal.credit[0], signal.credit[1])
    assert torch.equal(signal.visits[0], signal.visits[1])
    assert not torch.equal(signal.visits[0], signal.visits[2])


def test_the_same_seed_gives_the_same_practice_and_another_one_another(build_students):
    def visits(seed):
        practice = Practice(build_students(), SHORT, torch.tensor([0, 1, 2]), seed)
        return [practice.signal() for _ in range(3)][-1].visits

    assert torch.equal(visits(1), visits(1))
    assert not torch.equal(visits(1), visits(2))


def test_visits_are_fractions_of_the_steps_on_cells_where_one_acts(build_students):
    students = build_students()
    signal = Practice(students, SHORT, torch.tensor([0, 1, 2]), seed=0).signal()
    torch.testing.assert_close(signal.visits.sum(1), torch.ones(3))
    # 2 environments x 3 steps: sixths.
    torch.testing.assert_close(signal.visits * 6, (signal.visits * 6).round())
    idle = (students.worlds.wall | students.worlds.terminal)[students.world]
    assert (signal.visits[idle] == 0).all()


def test_the_first_step_is_taken_at_the_start(build_students):
    students = build_students()
    config = SampledConfig(num_envs=2, unroll_length=1)
    visits = Practice(students, config, torch.tensor([0, 1, 2]), seed=0).signal().visits
    start = students.worlds.start_cell[students.world]
    assert torch.equal(visits.argmax(1), start)
    assert (visits.amax(1) == 1).all()


def test_the_critic_moves_by_its_rate_towards_the_mean_return(build_students):
    # Without noise, and with a policy that goes right three times to the reward of 10.
    students = build_students(
        world=(0,), view_radius=4, action_noise=0.0, termination_probability=0.0
    )
    students.logits[:] = torch.tensor([-100.0, 100.0, -100.0, -100.0])[:, None]
    config = SampledConfig(num_envs=2, unroll_length=3, trace=1.0, critic_rate=0.5)
    Practice(students, config, torch.tensor([0]), seed=0).signal()
    # From the cells before the reward: 10, 0.99 * 10 and 0.99**2 * 10; half of it.
    seen = students.worlds.observation[0, [7, 8, 9]]
    wanted = torch.tensor([0.99**2, 0.99, 1.0]) * 10 / 2
    torch.testing.assert_close(students.value[0, seen], wanted)
    others = students.value[0].index_fill(0, seen, 0.0)
    assert (others == 0).all()


CROWD = 256
"""Students who are the same but for their luck."""


def sampled_and_exact(build_students, **options):
    """The gradients of a crowd that plays with the exact critic, and the exact ones of one step."""
    students = build_students(world=(0,), view_radius=4, scale=0.7)
    policy = students.cell_policy()
    solved = evaluate(students.worlds, policy, 0.99, students.world)
    crowd = replace(
        students,
        world=students.world.repeat(CROWD),
        teacher=students.teacher.repeat(CROWD, 1, 1),
        logits=students.logits.repeat(CROWD, 1, 1),
        value=torch.zeros(CROWD, students.num_observations),
    )
    # No cells look alike, so that a table of observations can hold the exact values.
    seen = students.worlds.observation[:1].expand(CROWD, -1)
    live = ~(students.worlds.wall | students.worlds.terminal)[0]
    crowd.value.scatter_(1, seen[:, live], solved.value.float()[:, live].expand(CROWD, -1))
    config = SampledConfig(num_envs=16, unroll_length=32, critic_rate=0.0, **options)
    practice = Practice(crowd, config, torch.arange(CROWD), seed=3)
    for _ in range(8):
        # All episodes begin together; after a while their ages are mixed.
        practice.signal()
    rows = torch.stack([gradients(crowd, practice.signal()) for _ in range(4)]).mean(0)
    # A sampled gradient is the mean over steps, the exact one the sum over an episode.
    length = evaluate(students.worlds, policy, 1.0, students.world).visitation.sum()
    exact = gradients(students, exact_signal(students))[0] / length.float()
    return rows, exact


def deviations(rows, exact):
    """By how many standard errors the mean over the crowd is off, where anything varies."""
    error = rows.std(0) / len(rows) ** 0.5
    varies = error > 1e-8
    return ((rows.mean(0) - exact)[varies] / error[varies]).abs()


def test_with_an_exact_critic_and_discount_weights_the_mean_gradient_is_the_exact_one(
    build_students,
):
    rows, exact = sampled_and_exact(build_students, trace=1.0, discount_weights=True)
    assert exact.abs().amax() > 0.01
    # About 80 entries: 4.5 standard errors happen by chance once in two thousand seeds.
    assert deviations(rows, exact).amax() < 4.5


def test_without_discount_weights_as_in_practice_it_is_not(build_students):
    rows, exact = sampled_and_exact(build_students, trace=1.0)
    assert deviations(rows, exact).amax() > 10


def test_worlds_with_a_max_episode_steps_are_refused(build_students):
    with pytest.raises(ValueError, match="max_episode_steps must be 0"):
        Practice(build_students(max_episode_steps=9), SHORT, torch.tensor([0, 1, 2]), seed=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_envs", 0), ("unroll_length", 0), ("trace", 1.1), ("critic_rate", -0.1)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        SampledConfig(**{option: value})
