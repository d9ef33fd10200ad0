from dataclasses import replace

import pytest
import torch

from agents.checkpoint import load_checkpoint
from agents.teacher import load_policy
from configs import build, rundir
from configs.choice import Choice
from configs.train import defaults

CPU = torch.device("cpu")
SHORT = {"num_envs": 3, "unroll_length": 4, "steps": 240, "precision": "fp32", "device": "cpu"}


def session_of(env="Catch", family="catch", **options):
    config = defaults(Choice(env, family, "a2c", "mlp", (), None))
    config = replace(config, run=replace(config.run, **{**SHORT, **options}))
    return build.build(config, build.Hardware(CPU, "fp32", 1, ""))


def train(session, updates):
    for _ in range(updates):
        session.learner.update(session.collector.collect())


def weights(session):
    return session.learner.agent.state_dict()


def alike(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_restored_session_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = session_of()
    train(whole, 5)
    whole.save(tmp_path)
    train(whole, 5)

    again = session_of(seed=99)  # whose environments and weights are others until restored
    said = again.restore(load_checkpoint(tmp_path / rundir.CHECKPOINTS).state)
    assert said == "Resumed at step 60, exactly."  # 5 updates of 3 x 4 steps
    assert again.learner.steps == 60
    train(again, 5)
    assert alike(weights(whole), weights(again))
    expected, restored = whole.collector.episodes, again.collector.episodes
    assert restored.summary() == expected.summary()
    assert expected.summary().finished > 0


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
    state |= {"device": "cuda", "acting": torch.zeros(16, dtype=torch.uint8)}
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
