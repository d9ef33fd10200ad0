import json
from dataclasses import fields

import pytest
import torch

from agents.learning.learner import Learner
from agents.trajectory import Trajectory
from experiments.studies.autoreset import VARIANT, main, unmask
from experiments.training.run_folder import read_config

T, B, A = 3, 2, 4

# Episodes of Catch with four rows take three steps, so every fourth step is an autoreset.
LENGTH, ROWS = 10, 4
FLAGS = (
    f"--env Catch --env.rows {ROWS} --num-envs 3 --unroll-length {LENGTH} --steps 60 "
    "--device cpu --threads 1 --precision fp32 --seed 5"
)


@pytest.fixture
def trajectory():
    """An episode of the first environment ends at the first step."""
    valid = torch.tensor([[True, True], [False, True], [True, True]])
    return Trajectory(
        action=torch.randint(A, (T, B)),
        reward=torch.randn(T, B),
        terminated=~valid.roll(-1, 0),
        truncated=torch.zeros(T, B, dtype=torch.bool),
        valid=valid,
        log_probability=torch.rand(T, B).log(),
        observation=torch.randn(T + 1, B, 6),
        episode_start=torch.tensor([True, False]),
        value=torch.randn(T + 1, B),
    )


@pytest.fixture
def learnt(monkeypatch, tmp_path):
    """Trains with flags of the benchmark and gives the trajectories that were learnt from."""
    before = Learner.update

    def learnt(*own, name="run", flags=""):
        seen = []

        def update(self, trajectory):
            seen.append(trajectory)
            return before(self, trajectory)

        monkeypatch.setattr(Learner, "update", update)
        folder = tmp_path / name
        words = [*FLAGS.split(), *flags.split(), "--run-dir", str(folder)]
        assert main([*own, "--", *words]) == 0
        return seen, folder

    return learnt


def same(first, second, but=()):
    """Whether two trajectories are alike, bit for bit."""
    for field in fields(Trajectory):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name in but or one is other is None:
            continue
        if not torch.equal(one, other):
            return False
    return True


def test_every_step_counts_and_nothing_else_is_changed(trajectory):
    changed = unmask(trajectory)
    assert changed.valid.tolist() == [[True] * B] * T
    assert same(trajectory, changed, but=("valid",))


def test_a_recurrent_core_still_forgets_where_an_episode_begins(trajectory):
    assert trajectory.reset.any()
    assert torch.equal(unmask(trajectory).reset, trajectory.reset)


def test_a_minibatch_of_it_is_the_same_of_the_whole(trajectory):
    some = torch.tensor([1])
    changed = unmask(trajectory).select(some)
    assert changed.valid.tolist() == [[True]] * T
    assert same(trajectory.select(some), changed, but=("valid",))
    assert torch.equal(changed.reset, trajectory.reset[:, some])


def test_the_learner_gets_the_discarded_actions_with_reward_0_and_all_else_as_ever(learnt):
    masked, _ = learnt(name="masked")
    unmasked, _ = learnt("--unmasked", name="unmasked")
    assert len(masked) == len(unmasked) == 2
    # Steps 3 and 7 of the first ten follow an end; the second trajectory begins at step 10.
    ends = [t for t in range(LENGTH) if t % ROWS == ROWS - 1]
    assert [t for t in range(LENGTH) if not masked[0].valid[t].any()] == ends == [3, 7]
    assert all(trajectory.valid.all() for trajectory in unmasked)
    # Until the first update the two runs are one.
    assert same(masked[0], unmasked[0], but=("valid",))
    assert (unmasked[0].reward[ends] == 0).all()


def test_what_is_learnt_differs_from_the_first_update_on(learnt):
    def logged(own, name):
        _, folder = learnt(*own, name=name, flags="--log-steps 1")
        lines = (folder / "metrics.csv").read_text("utf-8").splitlines()
        header = lines[0].split(",")
        return [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]

    masked, unmasked = logged([], "masked"), logged(["--unmasked"], "unmasked")
    assert masked[0]["value_loss"] != unmasked[0]["value_loss"]
    # Episodes are counted as ever: autoreset steps are not part of their lengths.
    assert masked[0]["length"] == unmasked[0]["length"] == "3"


def test_the_run_says_what_it_is_and_is_read_as_any_other(learnt):
    _, masked = learnt(name="masked")
    _, unmasked = learnt("--unmasked", name="unmasked")
    said = [
        json.loads((folder / "versions.json").read_text("utf-8")) for folder in (masked, unmasked)
    ]
    assert "variant" not in said[0]
    assert said[1]["variant"] == VARIANT
    assert read_config(unmasked).run.seed == 5


def test_a_core_and_minibatches_work_with_it(learnt):
    trajectories, _ = learnt(
        "--unmasked", flags="--algo ppo --algo.ppo.minibatches 3 --core gru --core.gru.width 4"
    )
    assert all(trajectory.valid.all() for trajectory in trajectories)
    assert trajectories[0].reset[ROWS].all()


@pytest.mark.parametrize("flags", ["--aux value_replay", "--algo ppg", "--algo=ppg"])
def test_what_learns_again_from_stored_trajectories_is_refused(flags, capsys):
    assert main(["--unmasked", "--", "--env", "Catch", *flags.split()]) == 2
    name = flags.replace("=", " ").split()[-1]
    assert capsys.readouterr().err.startswith(f"autoreset.py: --unmasked does not go with {name}")
