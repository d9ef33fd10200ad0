import threading
from dataclasses import replace

import pytest
import torch

from agents.learning.learner import Learner
from agents.runtime.checkpoint import load_checkpoint
from agents.runtime.distributed import Processes
from agents.teachers import POLICY_FILE, load_policy
from configs.choice import Choice
from configs.cli import parse
from configs.training import defaults
from experiments.training import build
from experiments.training import run_folder as rundir
from experiments.training.hardware import Hardware
from experiments.training.session import Gallery, label_of, of_task
from tests.experiments.sessions import SMALL, WORLDS
from tests.experiments.sessions import session_of as from_flags

CPU = torch.device("cpu")
SHORT = {"num_envs": 3, "unroll_length": 4, "steps": 240, "precision": "fp32", "device": "cpu"}


def config_of(env="Catch", family="catch", algo="a2c", core="none", **options):
    config = defaults(Choice(env, family, algo, "mlp", (), None, core))
    if algo == "ppo":
        config = replace(config, algo=replace(config.algo, minibatches=3))
    return replace(config, run=replace(config.run, **{**SHORT, **options}))


def session_of(env="Catch", family="catch", **options):
    return build.build(config_of(env, family, **options), Hardware(CPU, "fp32", 1, ""))


@pytest.fixture
def pipelined():
    """Sessions that play while they learn; their threads end with the test."""
    sessions = []

    def pipelined(**options):
        sessions.append(session_of(pipeline=True, **options))
        return sessions[-1]

    yield pipelined
    for session in sessions:
        session.close()


def train(session, updates):
    for _ in range(updates):
        session.learner.update(session.collector.collect())


def weights(session):
    return session.learner.agent.state_dict()


def alike(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("algo", "core"), [("a2c", "none"), ("ppo", "none"), ("ppo", "gru")])
def test_a_restored_session_goes_on_as_if_nothing_had_happened(tmp_path, algo, core):
    whole = session_of(algo=algo, core=core)
    train(whole, 5)
    whole.save(tmp_path)
    train(whole, 5)

    again = session_of(
        algo=algo, core=core, seed=99
    )  # whose environments and weights are others until restored
    said = again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert said == "Resumed at step 60, exactly."  # 5 updates of 3 x 4 steps
    assert again.learner.steps == 60
    train(again, 5)
    assert alike(weights(whole), weights(again))
    expected, restored = whole.collector.episodes, again.collector.episodes
    assert restored.summary() == expected.summary()
    assert expected.summary().finished > 0


@pytest.mark.parametrize("small", [SMALL, WORLDS], ids=["catch", "gridworld"])
def test_a_restored_session_replays_what_the_first_one_would_have(tmp_path, small):
    line = "--aux pixel_control reward_prediction value_replay"
    whole = from_flags(line, small)
    train(whole, 3)
    whole.save(tmp_path)
    train(whole, 3)
    again = from_flags(f"{line} --seed 1", small)
    said = again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert said == "Resumed at step 18, exactly."  # 3 updates of 2 x 3 steps
    train(again, 3)
    assert alike(weights(whole), weights(again))


def test_a_teacher_that_is_followed_while_ahead_is_tried_before_the_run_and_only_then(
    tmp_path,
):
    line = f"{WORLDS} --aux distill --aux.distill.where ahead --gate sum"
    whole = from_flags(line, "")
    assert "The teacher was tried for" in whole.remarks
    trial = whole.learner.heads["distill"].trial
    assert trial.standard.isfinite().all()
    train(whole, 5)
    whole.save(tmp_path)
    train(whole, 5)

    hardware = Hardware(CPU, "fp32", 1, "")
    again = build.build(parse(line.split()), hardware, step=whole.learner.steps)
    assert not again.remarks
    assert again.learner.heads["distill"].trial.standard.isnan().all(), "no second trial"
    again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert torch.equal(again.learner.heads["distill"].trial.standard, trial.standard)
    train(again, 5)
    assert alike(weights(whole), weights(again))


def test_what_heads_hold_is_said_where_it_is_much():
    # 2 (4 x 50 x 4 + 3 x 19) = 1,714 bytes for 6 steps on Catch: 10^5 steps are 27.2 MiB.
    line = "--aux value_replay --aux.value-replay.replay-steps 100000"
    assert from_flags(line).held == "Heads hold 27 MiB (replay, copies)."
    assert from_flags("--aux value_replay --aux.value-replay.replay-steps 100").held == ""
    assert from_flags("").held == ""


def test_heads_that_rotograd_cannot_reach_are_named_and_nothing_is_said_of_their_gradient():
    line = "--aux inverse spr curl reconstruct reward_prediction value_replay forward"
    session = from_flags(f"{line} --gate rotograd --unroll-length 8")
    alone = {"spr", "curl", "reconstruct", "reward_prediction", "value_replay"}
    named = session.ungated.partition(": ")[2].rstrip(".").split(", ")
    assert set(named) == alone
    metrics = session.update()
    for head in line.split()[1:]:
        assert metrics[f"{head}/passed"].isnan() == (head in alone)
        assert metrics[f"{head}/cosine"].isnan() == (head in alone)
        assert metrics[f"{head}/loss"].isfinite()
    assert from_flags(line).ungated == ""
    assert from_flags("--aux inverse forward --gate rotograd").ungated == ""


def test_a_saved_session_exports_its_policy_with_its_age(tmp_path):
    session = session_of()
    train(session, 2)
    session.save(tmp_path)
    agent, card = load_policy(tmp_path, CPU)
    assert (card.env, card.steps, card.torso) == ("Catch", 24, "mlp")
    observation = torch.rand(1, 2, 10, 5)
    assert torch.equal(agent.logits(observation), session.learner.agent.logits(observation))


def test_an_environment_that_cannot_be_restored_starts_new_episodes_and_says_so(tmp_path):
    first = session_of("CartPole-v1", "gym")
    train(first, 3)
    first.save(tmp_path)
    again = session_of("CartPole-v1", "gym")
    said = again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert said == (
        "Resumed at step 36; CartPole-v1 cannot be restored in mid-episode: new episodes start."
    )
    assert alike(weights(first), weights(again))
    assert not again.collector.episodes.running_length.any()
    for session in (first, again):
        session.env.close()


def test_a_session_of_another_kind_of_device_is_restored_but_for_its_chance(tmp_path):
    first = session_of()
    train(first, 3)
    first.save(tmp_path)
    state = load_checkpoint(tmp_path / rundir.CHECKPOINTS).state
    # As a GPU would have left it: its generator's state is 16 bytes, the CPU's thousands.
    state["collector"] |= {"acting": torch.zeros(16, dtype=torch.uint8)}
    state |= {"device": "cuda"}
    again = session_of()
    assert again.restore(state) == (
        "Resumed at step 36; random numbers of cuda cannot go on on cpu: new episodes start."
    )
    assert alike(weights(first), weights(again))
    assert not again.collector.episodes.running_length.any()
    train(again, 1)


def test_a_full_disk_keeps_what_was_saved_before(tmp_path, monkeypatch):
    session = session_of()
    train(session, 1)
    session.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    train(session, 1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        session.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_update_collects_and_learns_with_the_threads_of_each(monkeypatch):
    session = replace(session_of(), threads=3)
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    metrics = session.update()
    # One while the environments play, then all.
    assert threads == [1, 3]
    assert session.learner.steps == 12
    assert metrics["entropy"] > 0


def test_what_a_head_draws_is_the_trajectory_that_was_learnt_from_last(monkeypatch):
    session = session_of()
    assert session.pictures() == {}
    kept, learnt = [], []
    monkeypatch.setattr(Gallery, "keep", lambda self, learner, trajectory: kept.append(trajectory))
    monkeypatch.setattr(Learner, "update", lambda self, seen: learnt.append(seen) or {})
    session.update()
    assert len(kept) == 1
    assert kept[0] is learnt[0]


def test_a_pipelined_session_starts_new_episodes_when_it_goes_on_and_says_so(tmp_path, pipelined):
    first = pipelined()
    for _ in range(3):
        first.update()
    first.save(tmp_path)
    again = pipelined(seed=99)
    said = again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert said == (
        "Resumed at step 36; what was being played meanwhile is not saved: new episodes start."
    )
    assert alike(weights(first), weights(again))
    assert not again.collector.episodes.running_length.any()
    # The player takes over the weights before it plays.
    trajectory = again.collector.collect()
    logits = first.learner.agent.unroll(trajectory).logits[:-1]
    expected = torch.distributions.Categorical(logits=logits).log_prob(trajectory.action)
    assert torch.allclose(trajectory.log_probability, expected, atol=1e-6)


def test_one_of_several_processes_starts_new_episodes_and_says_so(tmp_path):
    first = replace(session_of(), processes=Processes(0, 2))
    train(first, 3)
    first.save(tmp_path)
    again = replace(session_of(), processes=Processes(0, 2))
    assert again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state) == (
        "Resumed at step 36; what each process was playing is not saved: new episodes start."
    )


def test_finished_episodes_are_counted_once_when_several_processes_go_on(tmp_path):
    first = replace(session_of(), processes=Processes(0, 2))
    train(first, 3)
    first.save(tmp_path)
    state = load_checkpoint(tmp_path / rundir.CHECKPOINTS).state
    again = [replace(session_of(), processes=Processes(rank, 2)) for rank in (0, 1)]
    for session in again:
        session.restore(state)
    # What the first line of the log is made of: what both have finished, and its means.
    both = sum(session.collector.episodes.sums() for session in again)
    assert both[0] == 3  # of nine steps each, in three environments
    assert torch.equal(both, first.collector.episodes.sums())


def test_another_number_of_processes_goes_on_with_new_episodes_and_says_so(tmp_path):
    first = replace(session_of(num_envs=2), processes=Processes(0, 2))  # of four
    train(first, 3)
    first.save(tmp_path)
    alone = session_of(num_envs=4)
    assert alone.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state) == (
        "Resumed at step 24; 2 processes were at work and now 1: new episodes start."
    )
    assert alike(weights(first), weights(alone))
    train(alone, 1)
    assert alone.learner.steps == 40


def test_closing_ends_the_thread_of_a_pipeline_and_frees_the_environments(monkeypatch):
    closed = []
    session = session_of(pipeline=True)
    monkeypatch.setattr(type(session.env), "close", lambda env: closed.append(env))
    session.update()
    session.close()
    assert closed == [session.env]
    assert not [thread for thread in threading.enumerate() if "collector" in thread.name]


@pytest.mark.parametrize("label", ["", "Catch-2", "policy", "-"])
def test_the_label_of_a_task_is_read_from_the_name_of_its_file(label):
    assert label_of(POLICY_FILE, of_task(POLICY_FILE, label)) == label


@pytest.mark.parametrize(
    "name", ["best.safetensors", "policy-.safetensors", "policy2.safetensors", "policy-2.zip"]
)
def test_the_name_of_another_file_has_no_label(name):
    assert label_of(POLICY_FILE, name) is None
