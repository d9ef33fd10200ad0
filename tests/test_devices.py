"""Runs on a device without hardware: nothing mixes devices, nothing makes the host wait.

`tests/dummy_device.py` is the device.  The cases cover every head, gate, algorithm and core.  These
faults were planted once, and each was seen: a tensor of the CPU in a head's loss, `.item()` and a
branch on a tensor in the update, a mask as an index and `torch.linalg.inv` in a gate, `.cpu()` and
an observation copied with waiting in the collector, and actions drawn from a generator of the host.
"""

from dataclasses import dataclass, replace

import jaxtyping
import pytest
import torch

from agents.heads.components.masks import FixedMask
from agents.rollout.evaluation import play
from agents.runtime.checkpoint import load_checkpoint
from agents.runtime.random import MOST_ON_HOST, Stream, generator
from agents.tabular import Lesson
from agents.teachers import NetworkTeacher
from configs.choice import names
from configs.cli import parse, parse_sweep
from envs.catch import CatchConfig, CatchVecEnv
from envs.gridworld import world_pool
from envs.gridworld.config import GridConfig
from experiments.sweep.chunks import compute
from experiments.training.actions import PartialTeacher
from experiments.training.build import build
from experiments.training.hardware import Hardware
from experiments.training.run_folder import CHECKPOINTS
from tests.dummy_device import DeviceError, dummy_device, strict

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """Other tests check the shapes; here the checks would take most of the time."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class PictureVecEnv(CatchVecEnv):
    """Catch as four frames of bytes, for the heads that want pictures."""

    def _observe(self):
        board = (super()._observe() * 255).to(torch.uint8)
        large = board.repeat_interleave(4, 1).repeat_interleave(8, 2)
        return large[:, None].expand(-1, 4, -1, -1).contiguous()


@dataclass(frozen=True)
class Pictures(CatchConfig):
    """Builds it."""

    def build(self, name, num_envs, seed, device, render=False):
        env = PictureVecEnv(self, name, num_envs, seed, device, render)
        shape = (4, 4 * self.rows, 8 * self.columns)
        env.spec = replace(
            env.spec, observation_shape=shape, observation_dtype=torch.uint8, num_frames=4
        )
        return env


CASES = {
    "cosine": "--env Catch --aux spr inverse --gate.main policy --gate.metric optimizer",
    "projection": "--env Catch --algo ppo --core gru --aux multi_horizon forward "
    "--gate.projection.decay 0.9",
    "sum": "--env Gridworld --aux distill termination --aux.distill.mirror --aux.distill.delay 3 "
    "--aux.distill.random-answers 0.5",
    "cosine_unweighted": "--env Gridworld --algo ppg --aux distill",
    "orthogonal": "--env Pictures --torso small --aux curl pixel_control",
    "bounded": "--env Pictures --torso small --algo ppo --aux spr reconstruct reward_prediction",
    "pcgrad": "--env Catch --core gru --aux value_replay adversarial",
    "gradvac": "--env Catch --algo ppo --aux forward inverse",
    "mgda": "--env Gridworld --algo ppo --aux distill termination",
    "cagrad": "--env Catch --aux multi_horizon inverse --gate.at features",
    "upgrad": "--env Gridworld --aux reconstruct distill --gate.scope layer",
    "nash": "--env Catch --core gru --algo ppo --aux spr termination",
    "auxinash": "--env Catch --aux inverse forward --gate.auxinash.learn-every 1",
    "gradnorm": "--env Catch --core gru --aux reward_prediction multi_horizon",
    "ol_aux": "--env Catch --aux value_replay reconstruct --gate.ol-aux.interval 1",
    "attittud": "--env Catch --algo ppo --aux inverse termination",
    "rotograd": "--env Pictures --torso small --aux pixel_control reward_prediction",
    "significant": "--env Catch --aux spr reconstruct --gate.significant.slices 3",
    "none": "--env Gridworld --algo none --core gru --aux distill --gate sum",
    "tasks": "--env Catch+Catch(mirrored=True) --core gru --algo ppo --aux spr --gate cosine",
}
"""By gate: a command line, but for the gate itself; and those of no gate."""


def session_of(gate, line, device):
    words = line.replace("Pictures", "Catch").split()
    words += [] if "--gate" in words else ["--gate", gate]
    if "Gridworld" in line:
        words += ["--env.num-worlds", "4", "--env.height", "7", "--env.width", "7"]
    if "--algo ppo" in line:
        words += ["--algo.ppo.epochs", "1", "--algo.ppo.minibatches", "2"]
    if "--algo ppg" in line:  # a phase at every second trajectory
        words += ["--algo.ppg.every", "2", "--algo.ppg.auxiliary-epochs", "1"]
        words += ["--algo.ppg.minibatches", "1", "--algo.ppg.auxiliary-minibatches", "1"]
    config = parse([*words, "--num-envs", "4", "--unroll-length", "2"])
    if "Pictures" in line:
        config = replace(config, env=Pictures())
    return build(config, Hardware(device, "fp32", 1, "for a test"))


FAULTS = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: bool(x.sum() > 0),
    "cpu": lambda x: x.cpu(),
    "mask": lambda x: x[x > 0],
    "error code": lambda x: torch.linalg.inv(x),
    "constant": lambda x: x + torch.tensor([1.0, 2.0], device=x.device),
    "mixture": lambda x: x + torch.ones(2),
    "generator": lambda x: x.exponential_(generator=torch.Generator()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_device_refuses_what_a_gpu_would_refuse_or_wait_for(fault, monkeypatch):
    with dummy_device(monkeypatch) as device:
        x = torch.eye(2, device=device)
        with strict(), pytest.raises(DeviceError):
            FAULTS[fault](x)


def test_the_cases_cover_everything():
    chosen = {word for line in CASES.values() for word in line.split()}
    for slot in ("aux", "algo", "core"):
        assert set(names(slot)) - chosen <= {"none", "a2c"}  # the defaults
    assert set(names("gate")) <= set(CASES)


@pytest.mark.parametrize(("gate", "line"), CASES.items(), ids=CASES)
def test_a_run_on_a_device_waits_for_nothing_and_has_the_numbers_of_the_cpu(
    gate, line, monkeypatch
):
    host = session_of(gate, line, CPU)
    host.update()
    expected = host.update()
    with dummy_device(monkeypatch) as device:
        session = session_of(gate, line, device)
        session.update()  # makes moments, and what else is made once
        with strict():
            metrics = session.update()
        found = {name: value.cpu() for name, value in metrics.items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_run_goes_on_exactly_from_a_checkpoint_on_the_device(monkeypatch, tmp_path):
    gate, line = "pcgrad", CASES["pcgrad"]
    with dummy_device(monkeypatch) as device:
        session = session_of(gate, line, device)
        session.update()
        session.save(tmp_path)
        resumed = session_of(gate, line, device)
        said = resumed.restore(load_checkpoint(tmp_path / CHECKPOINTS).state)
        mine, theirs = session.update(), resumed.update()
        for name, value in mine.items():
            assert torch.equal(value.nan_to_num(), theirs[name].nan_to_num()), name
    assert said.endswith("exactly.")
    # On the host, from the same file.
    on_host = session_of(gate, line, CPU)
    assert "new episodes" in on_host.restore(load_checkpoint(tmp_path / CHECKPOINTS).state)
    on_host.update()


def test_of_many_random_numbers_the_host_draws_the_seed_alone(monkeypatch):
    stream, many = Stream(generator(1, "a head", CPU)), (3, MOST_ON_HOST)
    with dummy_device(monkeypatch) as device, strict():
        state = stream.get_extra_state()
        first = stream.uniform(many, device), stream.integers(9, many, device)
        other = stream.uniform(many, device)
        stream.set_extra_state(state)
        again = stream.uniform(many, device), stream.integers(9, many, device)
    assert [torch.equal(x.inner, y.inner) for x, y in zip(first, again, strict=True)] == [True] * 2
    assert not torch.equal(first[0].inner, other.inner)
    assert abs(first[0].inner.mean() - 0.5) < 0.01


def test_a_teacher_that_sees_less_and_has_fewer_actions_waits_for_nothing(monkeypatch):
    session = session_of("sum", "--env Pictures --torso small --aux inverse", CPU)
    agent, trajectory = session.learner.agent, session.collector.collect()
    agent.policy = torch.nn.Linear(agent.policy.in_features, 2)
    mask = FixedMask(0.5, session.env.spec)
    partial = PartialTeacher(NetworkTeacher(agent, session.card), (2, 0), 3)
    expected = partial(mask(trajectory))
    with dummy_device(monkeypatch) as device:
        columns = {name: value for name, value in vars(trajectory).items() if value is not None}
        moved = replace(trajectory, **{name: value.to(device) for name, value in columns.items()})
        mask, partial = mask.to(device), partial.to(device)
        with strict():
            found = partial(mask(moved))
        assert torch.equal(found.cpu(), expected)


def test_policies_are_evaluated_on_the_device(monkeypatch):
    def scores(device):
        session = session_of("cosine", "--env Catch --aux inverse", device)
        acting = generator(1, "acting", device)
        return play(session.env, session.learner.agent, 5, acting, step_limit=10)

    with dummy_device(monkeypatch) as device:
        found = scores(device)
    assert found == scores(CPU)


@pytest.mark.parametrize("gradients", ["exact", "sampled"])
def test_lessons_in_gridworlds_wait_for_nothing(gradients, monkeypatch):
    words = "--worlds 2 --world.height 6 --world.width 6 --updates 2 --gates sum cosine"
    words += " --temperatures 1 --teacher q-learning --teacher-steps 8 --gradients"
    config = parse_sweep([*words.split(), gradients])
    once = Lesson.update

    def update(lesson):
        with strict():
            once(lesson)

    monkeypatch.setattr(Lesson, "update", update)
    expected = compute(config, 0, CPU, lambda count: None)
    with dummy_device(monkeypatch) as device:
        found = compute(config, 0, device, lambda count: None)
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=0, equal_nan=True)


def test_steps_of_the_gridworld_wait_for_nothing(monkeypatch):
    with dummy_device(monkeypatch) as device:
        config = GridConfig(num_worlds=4, height=7, width=7, observation="flat")
        env = config.build("Gridworld", 3, 0, device)
        monkeypatch.setattr(world_pool, "_AHEAD_ON_GPU", 8)
        for teacher in ("optimal", "swap"):
            assert env.teacher_logits(teacher).device == device
        action = torch.ones(3, dtype=torch.int64, device=device)
        with strict():
            for _ in range(10):
                env.step(action)
        assert env.optimum.device == device
        env.restore(env.snapshot())
        env.step(action)
