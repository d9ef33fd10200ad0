from itertools import combinations

import pytest
import torch
from torch._functorch import config as functorch_config

from agents.runtime import random as seeding
from configs.cli import parse
from configs.errors import UsageError
from experiments.training import build, tasks
from tests.experiments.sessions import (
    HARDWARE,
    SMALL,
    WORLDS,
    agent_of,
    alike,
    among,
    complaint,
    session_of,
)


def test_the_pieces_fit_the_environment():
    session = session_of("--env.rows 4 --torso.mlp.widths 7")
    assert session.env.spec.num_envs == 2
    trajectory = session.collector.collect()
    assert trajectory.action.shape == (3, 2)
    assert trajectory.observation.shape == (4, 2, 4, 5)
    card = session.card
    assert (card.env, card.torso, card.num_actions) == ("Catch", "mlp", 3)
    assert card.torso_options == {"widths": (7,)}
    usual = {"columns": 5, "max_episode_steps": 0, "mirrored": False}
    assert card.env_options == {"rows": 4, **usual}


def test_runs_of_one_seed_are_alike_and_of_two_are_not():
    first, second, other = session_of(""), session_of(""), session_of("--seed 2")
    assert alike(agent_of(first), agent_of(second))
    assert not alike(agent_of(first), agent_of(other))
    one, two = first.collector.collect(), second.collector.collect()
    assert torch.equal(one.action, two.action)
    assert torch.equal(one.observation, two.observation)


def test_a_head_changes_neither_the_agent_nor_its_chance(teacher):
    plain, helped = session_of(""), session_of(f"--aux distill --teacher {teacher}")
    assert alike(agent_of(plain), agent_of(helped))
    assert torch.equal(plain.collector.collect().action, helped.collector.collect().action)
    assert list(helped.learner.heads) == ["distill"]


def test_the_trial_of_a_teacher_leaves_the_episodes_of_the_student_alone():
    plain = session_of("", WORLDS)
    tried = session_of("--aux distill --gate sum --aux.distill.where ahead", WORLDS)
    assert "was tried for" in tried.remarks
    one, other = plain.collector.collect(), tried.collector.collect()
    assert torch.equal(one.action, other.action)
    assert torch.equal(one.observation, other.observation)


def test_heads_that_fit_one_by_one_but_not_together_are_refused(monkeypatch):
    both = "--aux value_replay reward_prediction"
    held = [head.held_bytes for head in session_of(both).learner.heads.values()]
    free = sum(held) - 1
    assert max(held) < free
    monkeypatch.setattr(tasks, "free_bytes", lambda device: free)
    assert complaint(both).startswith("--aux value_replay reward_prediction hold 0.0 GiB together")
    session_of("--aux value_replay")


def test_building_leaves_the_global_chance_alone():
    before = torch.get_rng_state()
    session_of("")
    assert torch.equal(torch.get_rng_state(), before)
    assert seeding.derived_seed(1, "agent") != seeding.derived_seed(1, "acting")


def test_a_torso_that_does_not_fit_is_refused_with_the_one_that_does():
    said = complaint("--torso impala")
    assert said.endswith("use --torso mlp.")


@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_without_emulators_a_game_is_refused_with_the_cure(game, monkeypatch):
    monkeypatch.setattr("envs.atari.games.find_spec", lambda name: None)
    config = parse(SMALL.replace("Catch", game).split())
    cure = rf"^{game} needs envpool or ale-py: pip install 'auxgate\[atari\]'"
    with pytest.raises(UsageError, match=cure):
        build.build(config, HARDWARE)


def test_a_gymnasium_environment_without_finite_actions_is_refused():
    config = parse(SMALL.replace("Catch", "Pendulum-v1").split())
    with pytest.raises(UsageError, match="only a finite set"):
        build.build(config, HARDWARE)


def test_a_compiled_torso_is_asked_for_by_its_flag(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    session_of("")
    assert compiled == []
    session = session_of("--compile")
    assert compiled == [session.learner.agent.torso]


def test_what_a_compiled_torso_keeps_outlives_the_first_of_several_backward_passes(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    monkeypatch.setattr(functorch_config, "donated_buffer", True)
    session_of("")
    assert functorch_config.donated_buffer
    session_of("--compile")
    assert not functorch_config.donated_buffer


def test_a_pipeline_plays_with_a_copy_of_the_agent_and_compiles_both(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    session = session_of("--pipeline --compile")
    try:
        torso = session.learner.agent.torso
        assert len(compiled) == 2
        assert sum(module is torso for module in compiled) == 1
        other = next(module for module in compiled if module is not torso)
        assert alike(other.state_dict(), torso.state_dict())
        assert session.collector.collect().action.shape == (3, 2)
    finally:
        session.close()


def test_values_are_recorded_for_ppo_alone():
    assert session_of("").collector.collect().value is None
    trajectory = session_of("--algo ppo --algo.ppo.minibatches 2").collector.collect()
    assert trajectory.value.shape == (4, 2)


def test_a_core_is_built_on_the_torso_and_named_on_the_card():
    session = session_of("--core gru --core.gru.width 7")
    assert session.learner.agent.core.num_features == 7
    assert (session.card.core, session.card.core_options) == (
        "gru",
        {"width": 7, "last_action": True},
    )
    # Besides its units the state holds which of the three actions was the last.
    assert session.collector.collect().core_state.shape == (2, 7 + 3)


def test_processes_share_the_environments_and_begin_with_the_same_weights():
    first, second = among(0, "--num-envs 6"), among(1, "--num-envs 6")
    assert first.env.spec.num_envs == second.env.spec.num_envs == 3
    assert alike(agent_of(first), agent_of(second))


def played(session):
    """What depends on the seeds of the environments, and on those of the actions."""
    trajectory = session.collector.collect()
    return trajectory.observation[0], trajectory.action


def differ(left, right):
    return not any(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


def test_every_process_meets_other_episodes_and_the_first_those_of_one_alone():
    line = "--num-envs 16"
    first, second = played(among(0, line)), played(among(1, line))
    assert differ(first, second)
    alone = played(session_of("--num-envs 8"))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, alone, strict=True))


def test_a_run_that_goes_on_meets_other_episodes_each_time():
    line = parse(f"{SMALL} --num-envs 8".split())
    runs = [played(build.build(line, HARDWARE, step)) for step in (0, 60, 120)]
    runs += [played(among(1, "--num-envs 16", step)) for step in (60, 120)]
    assert all(differ(mine, theirs) for mine, theirs in combinations(runs, 2))
    again = played(build.build(line, HARDWARE, 60))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again, runs[1], strict=True))


def test_a_run_that_goes_on_has_the_same_agent_until_it_is_restored():
    line = parse(SMALL.split())
    assert alike(agent_of(build.build(line, HARDWARE)), agent_of(build.build(line, HARDWARE, 60)))


def test_the_learner_is_told_the_schedule_of_the_run():
    config = parse(f"{SMALL} --steps 100 --learning-rate 0.5 --learning-rate-end 0.1".split())
    learner = build.build(config, HARDWARE).learner
    assert learner.learning_rate == 0.5
    learner.steps = 50
    assert learner.learning_rate == pytest.approx(0.3)  # half-way from 0.5 to 0.1


@pytest.mark.parametrize("line", ["", "--core gru", "--torso mlp --env.observation flat"])
def test_a_gridworld_teaches_its_own_worlds(line):
    session = session_of(f"{line} --aux distill --aux.distill.temperature 0.5", WORLDS)
    metrics = session.update()
    metrics.pop("explained_variance")  # of returns that are all alike: no reward was met yet
    assert torch.isfinite(torch.stack(list(metrics.values()))).all()
    (head,) = session.learner.heads.values()
    teacher = head.get_extra_state()["teacher"]
    assert teacher == "optimal of 4 worlds from number 0 of seed 0+height=6+width=7"


def test_another_of_a_gridworlds_own_teachers_is_taken_by_its_name():
    session = session_of("--aux distill --teacher redraw", WORLDS)
    (head,) = session.learner.heads.values()
    assert head.get_extra_state()["teacher"].startswith("redraw of 4 worlds")


def test_a_gridworld_without_a_fitting_teacher_says_why():
    said = complaint("--env.terminal-rewards 1 -1 --aux distill --teacher swap", WORLDS)
    assert said.startswith("swap needs two positive terminal_rewards")


def test_rotograd_comes_with_rotations_of_the_features(teacher):
    line = f"--aux distill --teacher {teacher} --gate rotograd"
    agent = session_of(f"{line} --gate.rotograd.block 16").learner.agent
    # Blocks of 16 of the torso's 64 features.
    assert agent.num_features == 64
    assert agent.rotation.shape == (4, 16, 16)
    assert session_of(f"--aux distill --teacher {teacher}").learner.agent.rotation is None


def test_rotograd_changes_no_initial_weight(teacher):
    line = f"--aux distill --teacher {teacher} --gate"
    plain = agent_of(session_of(f"{line} cosine"))
    rotated = agent_of(session_of(f"{line} rotograd"))
    assert alike(plain, rotated)


def test_a_preference_is_learnt_where_that_is_asked_for(teacher):
    line = f"--aux distill --teacher {teacher} --gate auxinash"
    for asked, learnt in (("", False), ("--gate.auxinash.learn-every 1", True)):
        session = session_of(f"{line} {asked}")
        for _ in range(3):
            logged = session.update()
        preference = session.learner.gating.gate.preference
        assert ("distill/preference" in logged) == learnt
        assert (preference.numel() > 0) == learnt
    assert not torch.equal(preference, torch.full((2,), 0.5, dtype=torch.float64))
    assert logged["distill/preference"] == preference[1].float()


def test_every_head_draws_numbers_of_its_own_in_every_process():
    line = "--aux value_replay reward_prediction --algo ppo --algo.ppo.minibatches 1"
    sessions = [session_of(line), session_of(f"{line} --seed 2"), among(1, line)]
    states = [
        tuple(head.stream.generator.get_state().tolist())
        for session in sessions
        for head in session.learner.heads.values()
    ]
    assert len(set(states)) == len(states) == 6
    again = session_of(line).learner.heads["value_replay"].stream.generator.get_state()
    assert tuple(again.tolist()) == states[0]
