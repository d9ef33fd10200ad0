"""Updates that two processes make together, for `test_processes.py`, or one with all the data.

`python -m tests.agents.two_processes RANK FOLDER` is one of the two: it learns from its half
of every trajectory and leaves in the folder what it made of every case.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from agents.algorithms import A2CConfig, NoneConfig, PPOConfig
from agents.gates import make
from agents.heads import HeadLoss
from agents.learning.gating import GatingConfig
from agents.learning.learner import Learner, LearnerConfig
from agents.learning.step_loss import StepLoss
from agents.networks.actor_critic import ActorCritic
from agents.networks.recurrent import GRUConfig
from agents.networks.torsos import MlpConfig
from agents.runtime.distributed import ALONE, Agreement, join, leave
from agents.statistics import RunningMean
from agents.trajectory import Trajectory
from envs.base import Step
from envs.episodes import Episodes
from tests.agents.updating import Head, Probe

T, B, A = 5, 4, 3
UPDATES = 3
CPU = torch.device("cpu")


class Cousin(Head):
    """Wants of the value what the main loss roughly wants, so that a gate is half open."""

    trains = ("torso", "value")

    def shared_loss(self, output, trajectory):
        return (output.value[:-1] - trajectory.reward).square()


class Rare(Cousin):
    """Has something to learn in environment 0 alone; elsewhere its loss is a constant."""

    def forward(self, agent, output, trajectory, targets):
        marked = trajectory.state[:-1] == 0
        if not marked.any():
            return HeadLoss(torch.zeros(trajectory.valid.shape), marked)
        result = super().forward(agent, output, trajectory, targets)
        return HeadLoss(result.loss, result.valid & marked)


class Copied(Cousin):
    """Has the trajectory's mask, in environment 0's process, or a copy of it."""

    def forward(self, agent, output, trajectory, targets):
        result = super().forward(agent, output, trajectory, targets)
        first = (trajectory.state == 0).any()
        return HeadLoss(result.loss, result.valid if first else result.valid.clone())


ROTATION = {"pace": 1.0, "decay": 1.0, "block": 0}
LEARNT = {"learn_every": 1, "learn_rate": 0.1}


@dataclass(frozen=True)
class Case:
    """A learner, and what spoils its second trajectory."""

    algorithm: Any = A2CConfig()
    heads: Mapping[str, Callable[[], Head]] = field(default_factory=dict)
    gate: str = "sum"
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: int = 0
    spoilt: bool = False
    gate_options: dict = field(default_factory=dict)


AUX = {"aux": lambda: Cousin(weight=0.5)}
CASES = {
    "no head": Case(),
    "normalised advantages": Case(A2CConfig(normalize_advantage=True)),
    "values in their own units": Case(options={"normalize_value": True}),
    "sum": Case(heads=AUX),
    "cosine": Case(heads=AUX, gate="cosine"),
    "cosine of every layer": Case(
        heads=AUX, gate="cosine", options={"gating": GatingConfig("layer")}
    ),
    "cosine now and then": Case(
        heads=AUX, gate="cosine", options={"gating": GatingConfig(every=2)}
    ),
    "cosine with the policy part": Case(
        heads={"aux": Head}, gate="cosine", options={"gating": GatingConfig(main="policy")}
    ),
    "cosine of steps": Case(
        heads=AUX, gate="cosine", options={"gating": GatingConfig(metric="optimizer")}
    ),
    "at features": Case(
        heads=AUX, gate="cosine", options={"gating": GatingConfig(at="features")}, memory=5
    ),
    "projection": Case(heads=AUX, gate="projection"),
    "bounded": Case(heads=AUX, gate="bounded"),
    "two heads": Case(heads={**AUX, "other": Head}, gate="cosine"),
    "a head that trains no part of the agent": Case(heads={"aux": Probe}, gate="cosine"),
    "a head with nothing to learn in one process": Case(heads={"aux": Rare}, gate="cosine"),
    "a mask that is a copy in one process": Case(heads={"aux": Copied}, gate="cosine"),
    "no main loss": Case(NoneConfig(), heads=AUX),
    "rotograd": Case(heads={**AUX, "other": Head}, gate="rotograd", gate_options=ROTATION),
    "rotograd with memory": Case(heads=AUX, gate="rotograd", gate_options=ROTATION, memory=5),
    "learnt preference": Case(heads=AUX, gate="auxinash", gate_options=LEARNT),
    "memory": Case(heads=AUX, gate="cosine", memory=5),
    "ppo": Case(PPOConfig(epochs=2, minibatches=1), heads=AUX, gate="cosine"),
    "ppo that stops early": Case(PPOConfig(epochs=4, minibatches=1, max_kl=1e-9)),
    "a loss that is not finite in one process": Case(heads=AUX, gate="cosine", spoilt=True),
    "the same without a head": Case(spoilt=True),
}


def joined(update: int, case: Case) -> Trajectory:
    """Four environments' steps, of which the first two have 3 invalid ones in 10, the others none.

    The last environment's reward is not a number in the second, if the case is spoilt.
    """
    generator = torch.Generator().manual_seed(update)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    terminated, truncated = torch.zeros(2, T, B, dtype=torch.bool)
    terminated[0, 1] = terminated[3, 1] = truncated[1, 0] = True
    first = torch.ones(1, B, dtype=torch.bool)
    reward = normal(T, B)
    if case.spoilt and update == 1:
        reward[1, 3] = torch.nan
    return Trajectory(
        action=torch.randint(A, (T, B), generator=generator),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        valid=torch.cat([first, ~(terminated | truncated)[:-1]]),
        log_probability=torch.rand(T, B, generator=generator).log(),
        observation=normal(T + 1, B, 6),
        state=torch.arange(B).expand(T + 1, B),
        core_state=normal(B, case.memory) if case.memory else None,
        episode_start=torch.tensor([True, False, False, True]),
        value=normal(T + 1, B),
    )


def make_learner(case, processes):
    torch.manual_seed(0)
    torso = MlpConfig(widths=(7, 5)).build((6,))
    agent = ActorCritic(torso, A, core=GRUConfig(case.memory).build(5) if case.memory else None)
    config = LearnerConfig(
        learning_rate=0.01, learning_rate_end=0.0, total_steps=10_000, max_gradient_norm=0.5
    )
    heads = {name: head() for name, head in case.heads.items()}
    return Learner(
        agent,
        case.algorithm.build(0.9, processes),
        heads,
        make(case.gate, **case.gate_options),
        replace(config, **case.options),
        processes,
    )


def weights_of(learner):
    """Of agent and heads, by name."""
    state = learner.state_dict()
    memory = {f"gate {name}": m for name, m in state["gate"].items() if m.numel() > 0}
    heads = {f"head {name}": weight for name, weight in state["heads"].items()}
    # The unit of values is moved only where it is asked for.
    learnt = {n: w for n, w in state["agent"].items() if w.any() or not n.startswith("value_scale")}
    return {**learnt, **heads, **memory}


@contextmanager
def counted_messages():
    """Counts what processes send each other."""
    counts = Counter()

    def counting(name, send):
        def counted(*tensors):
            counts[name] += 1
            return send(*tensors)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "all_gather"):
            patch.setattr(dist, name, counting(name, getattr(dist, name)))
        yield counts


def learn(case, processes=ALONE):
    """Learns from all environments if alone, else from this process's half of them."""
    learner = make_learner(case, processes)
    mine = torch.arange(B).chunk(processes.size)[processes.rank]
    with counted_messages() as messages:
        logs = [learner.update(joined(i, case).select(mine)) for i in range(UPDATES)]
    return {
        "messages": messages.total(),
        "weights": weights_of(learner),
        "logs": logs,
        "steps": learner.steps,
        "updates": learner.updates,
        "skipped": learner.skipped,
    }


def one_step(returns):
    """An episode of one step in every environment."""
    size = len(returns)
    flag = torch.ones(size, dtype=torch.bool)
    return Step(torch.zeros(size, 1), torch.tensor(returns), flag, ~flag, flag, flag)


def speak(processes):
    """What the small parts say where there are two: 1 and 2, of which the first has 3 entries."""
    rank = processes.rank
    value = torch.tensor([[1.0, 1.0, 1.0, 9.0], [2.0, 9.0, torch.nan, 9.0]][rank])
    valid = torch.tensor([[True, True, True, False], [True, False, False, False]][rank])
    running = RunningMean(processes)
    running.add({"loss": torch.tensor(1.0 + rank), "cosine": torch.tensor([torch.nan, 0.5][rank])})
    running.add({"loss": torch.tensor(3.0 + rank), "cosine": torch.tensor([0.1, 0.3][rank])})
    episodes = Episodes(2, CPU)
    episodes.update(one_step([[1.0, 3.0], [5.0, 7.0]][rank]))
    if rank == 0:
        episodes.update(one_step([2.0, 6.0]))
    agreement = Agreement(processes, CPU)
    weight = torch.tensor(1.0, requires_grad=True)
    StepLoss.of(weight * torch.ones(4), valid, processes).share.backward()
    loss = StepLoss.of(value, valid, processes)
    nothing = StepLoss.of(value, torch.zeros(4, dtype=torch.bool), processes)
    tensors = [torch.tensor([1.0, 2.0]) * (rank + 1), torch.tensor(10 * (rank + 1))]
    return {
        "leads": processes.leads,
        "size": processes.size,
        "sum": processes.sum(torch.tensor([1.0, rank])).tolist(),
        "sums": [tensor.tolist() for tensor in processes.sums(tensors)],
        "gather": [tensor.tolist() for tensor in processes.gather(tensors)],
        "mean": float(loss.mean),
        "share": float(loss.share),
        "slope": float(weight.grad),
        "nothing": float(nothing.mean),
        "any": [agreement.any(flag) for flag in (False, rank == 1, False, False)],
        "settle": [agreement.settle(flag) for flag in (False, rank == 1, True)],
        "running": running.drain(),
        "episodes": vars(episodes.drain(processes.sum)),
        "later": vars(episodes.drain(processes.sum)),
    }


def main(rank, folder):
    torch.set_num_threads(1)
    os.environ["WORLD_SIZE"] = "2"  # as torchrun says it
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=int(rank), world_size=2
    )
    processes = join(CPU)
    learnt = {name: learn(case, processes) for name, case in CASES.items()}
    said = speak(processes)
    leave()
    torch.save({"learnt": learnt, "said": said}, Path(folder) / f"{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
