"""Teachers that remember: they read on from one trajectory to the next."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads import Schedule
from agents.heads.distill import Distill
from agents.runtime.checkpoint import load_checkpoint, save_checkpoint
from agents.teachers import POLICY_FILE, NetworkTeacher, export_policy, load_policy, load_teacher
from tests.agents.cards import CPU, card_of, refusal
from tests.agents.updating import collect

MEMORY = 4


@pytest.fixture
def recurrent(build_agent, catch, opinionated):
    return opinionated(build_agent(catch.spec, memory=MEMORY))


@pytest.fixture
def recurrent_card(catch):
    return card_of(catch.spec, core="gru", core_options={"width": MEMORY, "last_action": False})


@pytest.fixture
def played(build_catch, build_agent):
    """Three trajectories of a student without memory, cut in and between episodes."""
    env = build_catch()
    return collect(env, build_agent(env.spec), 3)


def test_a_recurrent_policy_is_loaded_with_its_core(
    tmp_path, recurrent, recurrent_card, catch, played
):
    path = tmp_path / POLICY_FILE
    export_policy(path, recurrent, recurrent_card)
    loaded, card = load_policy(path, CPU)
    assert card == recurrent_card
    for mine, theirs in zip(loaded.core.parameters(), recurrent.core.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    teacher = load_teacher(path, catch.spec, CPU)
    expected = recurrent.unroll(replace(played[0], core_state=torch.zeros(2, MEMORY))).logits[:-1]
    assert torch.equal(teacher(played[0]), expected)


@pytest.mark.parametrize("width", [3, 5])
def test_a_core_of_another_width_is_refused(tmp_path, recurrent, catch, width):
    path = tmp_path / POLICY_FILE
    export_policy(path, recurrent, card_of(catch.spec, core="gru", core_options={"width": width}))
    assert "damaged or foreign" in refusal(lambda: load_policy(path, CPU))


def read_as_one(agent, trajectories):
    """The logits at all observations as if they were one long trajectory."""
    observation = torch.cat([t.observation[:-1] for t in trajectories])
    reset = torch.cat([t.reset[:-1] for t in trajectories])
    batch = observation.shape[1]
    return agent(observation, torch.zeros(batch, MEMORY), reset).logits


def test_a_teacher_remembers_from_one_trajectory_to_the_next(recurrent, recurrent_card, played):
    # The second begins before an invalid step, the third in the middle of an episode.
    assert [t.episode_start.all().tolist() for t in played] == [True, False, False]
    teacher = NetworkTeacher(recurrent, recurrent_card)
    mine = torch.cat([teacher(trajectory) for trajectory in played])
    expected = read_as_one(recurrent, played)
    assert_close(mine, expected)
    # A teacher that begins anew thinks otherwise of the third.
    fresh = NetworkTeacher(recurrent, recurrent_card)(played[2])
    assert not torch.isclose(fresh[0], expected[10]).all()


def test_a_recurrent_teacher_reads_what_the_student_did(catch, build_agent, opinionated, played):
    agent = opinionated(build_agent(catch.spec, memory=MEMORY, last_action=True))
    teacher = NetworkTeacher(agent, card_of(catch.spec))
    mine = torch.cat([teacher(trajectory) for trajectory in played])
    long = [torch.cat([t.observation[:-1] for t in played])]
    long += [torch.cat([t.reset[:-1] for t in played]), torch.cat([t.action for t in played])]
    nothing = torch.zeros(2, agent.core.state_size)
    expected = agent(long[0], nothing, *long[1:]).logits
    assert_close(mine, expected)
    # It would think otherwise had other actions been taken.
    others = agent(long[0], nothing, long[1], (long[2] + 1) % 3).logits
    assert not torch.isclose(mine, others).all()


def test_a_teacher_forgets_where_an_episode_begins(recurrent, recurrent_card, played):
    teacher = NetworkTeacher(recurrent, recurrent_card)
    expected = teacher(played[0])
    teacher(played[2])
    assert played[0].episode_start.all()
    assert torch.equal(teacher(played[0]), expected)


def test_a_teacher_without_memory_carries_nothing_over(small_agent, opinionated, catch, played):
    agent = opinionated(small_agent)
    teacher = NetworkTeacher(agent, card_of(catch.spec))
    teacher(played[0])
    assert teacher.memory is None
    expected = agent.logits(played[2].observation[:-1])
    assert torch.equal(teacher(played[2]), expected)


def test_what_a_teacher_remembers_is_saved_with_its_head(
    tmp_path, recurrent, recurrent_card, played
):
    def head():
        teacher = NetworkTeacher(recurrent, recurrent_card)
        return Distill(teacher, 1.0, Schedule(1.0, 1.0, 0))

    def opinions(head, trajectories):
        return [head.prepare(recurrent, trajectory).probabilities for trajectory in trajectories]

    whole, first, second = head(), head(), head()
    expected = opinions(whole, played)
    opinions(first, played[:2])
    save_checkpoint(tmp_path, 1, {"head": first.state_dict()})
    second.load_state_dict(load_checkpoint(tmp_path).state["head"])
    assert torch.equal(opinions(second, played[2:])[0], expected[2])
    assert not torch.equal(opinions(head(), played[2:])[0], expected[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_memory_that_was_saved_on_the_host_is_taken_up(
    recurrent, recurrent_card, played
):
    expected = read_as_one(recurrent, played)[10:]
    on_device = [
        replace(t, **{name: x.cuda() for name, x in vars(t).items() if x is not None})
        for t in played
    ]
    teacher = NetworkTeacher(recurrent.cuda(), recurrent_card)
    for trajectory in on_device[:2]:
        teacher(trajectory)
    teacher.memory = teacher.memory.cpu()
    assert_close(teacher(on_device[2]).cpu(), expected, rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_with_other_environments_than_the_teacher_remembers(
    recurrent, recurrent_card, played
):
    # As where a run of one process is resumed by two: each has half of the environments.
    head, half = (
        Distill(NetworkTeacher(recurrent, recurrent_card), 1.0, Schedule(1.0, 1.0, 0))
        for _ in range(2)
    )
    head.prepare(recurrent, played[0])
    half.load_state_dict(head.state_dict())
    mine = played[0].neighbours(1, 1)
    expected = head.prepare(recurrent, played[0]).probabilities[:, 1:]
    assert_close(half.prepare(recurrent, mine).probabilities, expected)
    # And it remembers them from then on.
    expected = head.prepare(recurrent, played[1]).probabilities[:, 1:]
    assert_close(half.prepare(recurrent, played[1].neighbours(1, 1)).probabilities, expected)
