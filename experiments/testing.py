"""Checks that components keep their contracts, for plugins and for the tests of this package.

    from auxgate.testing import check_gate
    def test_my_gate_keeps_the_contract():
        check_gate(MyGateConfig())

Each function raises an `AssertionError` that says which assertion about its kind of component
failed.  What one component is for, its own tests must check.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agents.algorithms import Algorithm
from agents.gates import Gate, Judgement
from agents.heads import AuxiliaryHead, HeadContext, HeadLoss
from agents.networks.actor_critic import ActorCritic
from agents.networks.recurrent import GRUConfig
from agents.networks.torsos import ImpalaConfig, MlpConfig
from agents.runtime.random import Stream, generator
from agents.statistics import masked_mean
from agents.teachers import NetworkTeacher, PolicyCard
from agents.trajectory import Trajectory
from envs.base import EnvSpec
from envs.checks import check_env, hold

__all__ = ["check_algorithm", "check_env", "check_gate", "check_head", "judge"]

T, B, A = 3, 2, 4

CPU = torch.device("cpu")

ROWS = {
    "aligned": [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]],
    "opposed": [[1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]],
    "with a vanished auxiliary": [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]],
    "with a vanished main one": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
    "all vanished": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "of the main loss alone": [[1.0, 2.0, 3.0]],
    "of very different lengths": [[1e6, 2e6, 0.0], [-1e-8, 1e-8, 3e-8], [-1.0, 0.0, 1.0]],
    "with an auxiliary that is not finite": [[1.0, 2.0, 3.0], [1.0, float("nan"), 0.0]],
}
"""Gradients that every gate must be able to judge."""

SPECS = {
    "vectors": EnvSpec("Vectors", B, (6,), torch.float32, A, "Checked"),
    "symbols": EnvSpec("Symbols", B, (3, 5), torch.uint8, A, "Checked", num_symbols=7),
    "images": EnvSpec("Images", B, (4, 36, 40), torch.uint8, A, "Checked", num_frames=4),
}
"""What heads and algorithms are tried with."""


def check_gate(config: Any, permutes: bool = True) -> None:
    """Checks that gates of a config keep the contract of `agents.gates.Gate`.

    Args:
        config: builds the gate.
        permutes: whether the order of the auxiliary losses should not matter.

    Raises:
        AssertionError: one of the assertions failed.
    """
    for case, values in ROWS.items():
        gate, rows = config.build(), torch.tensor(values)
        hold(isinstance(gate, Gate), "build() makes a Gate")
        for _ in range(2):  # memory differs the second time
            judgement = judge(gate, rows)
            hold(_finite(judgement.direction), f"the direction of gradients {case} is finite")
            hold(_finite(judgement.weights), f"the weights of gradients {case} are finite")
            shape = (1, len(rows) + gate.num_references)
            hold(judgement.weights.shape == shape, f"there is one weight for each row: {shape}")
    rows = _random(0, 4, 7)
    alone = judge(config.build(), rows[:1]).direction
    hold(torch.equal(alone, rows[0]), "the main loss alone is left as it is")
    for nothing in (0.0, torch.nan, torch.inf):
        spoilt = torch.cat([rows[:3], torch.full_like(rows[:1], nothing)])
        judgement = judge(config.build(), spoilt)
        same = torch.allclose(judgement.direction, judge(config.build(), rows[:3]).direction)
        hold(same, f"an auxiliary gradient of {nothing} is as good as none")
    _check_batches(config)
    _check_memory(config)
    if permutes:
        order = [0, 3, 1, 2]
        one, other = judge(config.build(), rows), judge(config.build(), rows[order])
        permuted = torch.allclose(other.weights[..., :4], one.weights[..., order])
        hold(permuted, "other places of the auxiliary losses give their weights other places")


def _check_batches(config: Any) -> None:
    batched, single = config.build(), [config.build() for _ in range(3)]
    for seed in range(2):
        rows = _random(seed, 3, 3, 7)
        together = judge(batched, rows, (4, 3)).direction
        apart = [judge(gate, row, (4, 3)) for gate, row in zip(single, rows, strict=True)]
        same = torch.allclose(together, torch.stack([each.direction for each in apart]))
        hold(same, "entries of a leading batch are judged as if they were alone")


def _check_memory(config: Any) -> None:
    gate, restored = config.build(), config.build()
    for seed in range(2):
        judge(gate, _random(seed, 3, 7))
    restored.load_state_dict(gate.state_dict())
    rows = _random(2, 3, 7)
    same = torch.equal(judge(restored, rows).direction, judge(gate, rows).direction)
    hold(same, "a gate that is restored from its state_dict goes on exactly")


def judge(
    gate: Gate, rows: Tensor, groups: tuple[int, ...] | None = None, samples: Tensor | None = None
) -> Judgement:
    """Judges gradients at losses of 1, with samples or slices if the gate asks for them.

    Args:
        gate: judges.
        rows: the gradients, the main loss's first.
        groups: lengths of blocks of columns that are judged apart.
        samples: gradients of samples; none: random ones, always the same.
    """
    *batch, _, num_columns = rows.shape
    if samples is None:
        samples = _random(99, gate.sample_rows, num_columns)
    # Slices of unequal size that point the same way, so that every sign is significant.
    part = torch.arange(10.0, 10.0 + gate.slices, dtype=rows.dtype)
    sliced = rows.unsqueeze(-3) * (part / part.sum())[:, None, None]
    samples = samples.to(rows).expand(*batch, -1, -1)
    return gate.judge(rows, rows.new_ones(rows.shape[:-1]), groups, samples, sliced)


def check_head(config: Any) -> None:
    """Checks that heads of a config keep the contract of `agents.heads.AuxiliaryHead`.

    The head is tried with vectors, symbols and images, and with a recurrent core.  It may refuse
    some of them with a `ValueError`, but not all.

    Raises:
        AssertionError: one of the assertions failed.
    """
    fits = False
    for kind, recurrent in (*((kind, False) for kind in SPECS), ("vectors", True)):
        agent, context = make_context(kind, recurrent=recurrent)
        try:
            head: AuxiliaryHead = config.build(context)
        except ValueError:
            continue
        fits = True
        _check_loss(head, agent, make_trajectory(agent, SPECS[kind]))
        head = config.build(context)
        short = make_trajectory(agent, SPECS[kind], length=1)
        nowhere = replace(short, valid=torch.zeros_like(short.valid))
        loss = _mean(evaluate(head, agent, nowhere))
        hold(bool(loss == 0), "there is no loss where no step is valid")
    hold(fits, "the head fits vectors, symbols or images")


def _check_loss(head: AuxiliaryHead, agent: ActorCritic, trajectory: Trajectory) -> None:
    before = [parameter.detach().clone() for parameter in agent.parameters()]
    state = torch.get_rng_state()
    result = evaluate(head, agent, trajectory)
    hold(result.loss.shape == result.valid.shape, "the mask has the shape of the loss")
    hold(bool(result.valid.any()), "some of the entries are valid")
    valid = result.loss[result.valid]
    hold(_finite(valid), "the loss of every valid entry is finite")
    hold(result.loss.dtype == torch.float32, "the loss is float32")
    signed = not head.non_negative or bool((valid >= 0).all())
    hold(signed, "a loss that declares to be non-negative is never below zero")
    within = result.loss.shape != (T, B) or not bool((result.valid & ~trajectory.valid).any())
    hold(within, "a loss per step counts valid steps alone")
    for name, value in result.metrics.items():
        plain = value.shape == () and not value.requires_grad
        hold(plain, f"the metric {name} is a scalar without gradient")
    _mean(result).backward()
    hold(bool(head.trains), "the head declares which parts of the agent it trains")
    for name, part in agent.parts.items():
        reached = [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        declared = name in head.trains
        # A head may start from the feature map, which comes before the torso's last layer.
        right = any(reached) if declared else not any(reached)
        hold(right, f"the loss {'reaches' if declared else 'does not reach'} the {name}")
    trained = all(parameter.grad is not None for parameter in head.parameters())
    hold(trained, "the loss trains every parameter of the head")
    head.after_update(agent)
    hold(all(map(torch.equal, before, agent.parameters())), "a head changes no weight of the agent")
    same = torch.equal(state, torch.get_rng_state())
    hold(same, "a head draws from its context's streams, not from torch's own generator")


def make_context(
    kind: str, recurrent: bool = False, unroll_length: int = T
) -> tuple[ActorCritic, HeadContext]:
    """Makes a small agent, always the same one, and what a head is built from.

    Args:
        kind: of observations, of `SPECS`.
        recurrent: whether the agent has a core.
        unroll_length: T.
    """
    spec = SPECS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        agent, teacher = (_agent(spec, recurrent) for _ in range(2))
    shape, dtype = spec.observation_shape, str(spec.observation_dtype)
    card = PolicyCard(spec.name, spec.action_set, A, shape, dtype, "raw", "mlp", {}, 0)
    context = HeadContext(
        spec=spec,
        torso=agent.torso,
        num_features=agent.num_features,
        device=CPU,
        load_teacher=lambda path: NetworkTeacher(teacher, card),
        stream=lambda name: Stream(generator(0, name, CPU)),
        discount=0.9,
        unroll_length=unroll_length,
    )
    return agent, context


def _agent(spec: EnvSpec, recurrent: bool) -> ActorCritic:
    image = len(spec.observation_shape) == 3
    config: Any = ImpalaConfig(channels=(2, 3), width=5) if image else MlpConfig((7, 5))
    torso = config.build(spec.observation_shape, spec.num_symbols)
    core = GRUConfig(6).build(torso.num_features, A) if recurrent else None
    agent = ActorCritic(torso, A, "fp32", core)
    torch.nn.init.normal_(agent.policy.weight, std=0.2 if image else 1.0)  # far from uniform
    return agent


def make_trajectory(agent: ActorCritic, spec: EnvSpec, length: int = T) -> Trajectory:
    """Makes a random trajectory: of two environments one is truncated first, one ends second.

    Args:
        agent: whose core's state it begins with, and whose values it records.
        spec: of what is observed.
        length: T; without ends where it is 1.
    """
    draws = torch.Generator().manual_seed(0)
    size = (length + 1, B, *spec.observation_shape)
    if spec.observation_dtype == torch.float32:
        observation = torch.randn(size, generator=draws)
    else:
        observation = torch.randint(
            spec.num_symbols or 256, size, dtype=torch.uint8, generator=draws
        )
    truncated = torch.zeros(length, B, dtype=torch.bool)
    terminated = truncated.clone()
    if length > 1:
        truncated[0, 0] = terminated[1, 1] = True
    ended = truncated | terminated
    valid = torch.cat([torch.ones(1, B, dtype=torch.bool), ~ended[:-1]])
    reward = torch.randn(length, B, generator=draws)
    core = agent.core
    trajectory = Trajectory(
        action=torch.randint(A, (length, B), generator=draws),
        reward=torch.where(valid, reward, 0.0),
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        log_probability=torch.rand(length, B, generator=draws).log(),
        observation=observation,
        core_state=None if core is None else torch.randn(B, core.state_size, generator=draws),
    )
    with torch.no_grad():
        return replace(trajectory, value=agent.unroll(trajectory).value)


def evaluate(head: AuxiliaryHead, agent: ActorCritic, trajectory: Trajectory) -> HeadLoss:
    """Computes the head's loss on a trajectory.

    Args:
        head: of `agent`.
        agent: is unrolled over the trajectory first.
        trajectory: all of it, as one batch.
    """
    targets = head.prepare(agent, trajectory)
    loss: HeadLoss = head(agent, agent.unroll(trajectory), trajectory, targets)
    return loss


def _shared(algorithm: Algorithm, agent: ActorCritic) -> bool:
    theirs = {id(parameter) for parameter in agent.parameters()}
    return any(id(parameter) in theirs for parameter in algorithm.parameters())


def check_algorithm(config: Any) -> None:
    """Checks that the main loss of a config keeps the contract of `agents.algorithms.Algorithm`.

    Raises:
        AssertionError: one of the assertions failed.
    """
    algorithm: Algorithm = config.build(0.9)
    hold(isinstance(algorithm, Algorithm), "build() makes an Algorithm")
    for name in ("value_coefficient", "entropy_coefficient"):
        hold(0 <= getattr(algorithm, name) < float("inf"), f"{name} is 0 or more and finite")
    for recurrent in (False, True):
        agent, _ = make_context("vectors", recurrent=recurrent)
        try:
            algorithm.attach(agent)
        except ValueError:  # it says that it cannot use a core
            hold(recurrent, "attach() takes an agent without a core")
            continue
        algorithm.load_state_dict(algorithm.state_dict())
        hold(not _shared(algorithm, agent), "the agent is no part of the algorithm")
        trajectory = make_trajectory(agent, SPECS["vectors"])
        with torch.no_grad():
            targets = algorithm.prepare(trajectory)
        loss = algorithm.loss(agent.unroll(trajectory), trajectory, targets, 0.5)
        for name in ("policy", "value", "entropy", "value_target"):
            term = getattr(loss, name)
            hold(term.shape == (T, B), f"the term {name} has the shape [T, B]")
            hold(_finite(term[trajectory.valid]), f"the term {name} of valid steps is finite")
        for name, metric in loss.metrics.items():
            plain = metric.shape == (T, B) and not metric.requires_grad
            hold(plain, f"the metric {name} has the shape [T, B] and no gradient")
        hold(not loss.value_target.requires_grad, "the value's target has no gradient")
        # What comes after an end belongs to another episode.
        observation, reward = trajectory.observation.clone(), trajectory.reward.clone()
        observation[2:, 0] += 10.0
        reward[2:, 0] += 10.0
        other = replace(trajectory, observation=observation, reward=reward)
        with torch.no_grad():
            other = replace(other, value=agent.unroll(other).value)
            prepared = algorithm.prepare(other)
        again = algorithm.loss(agent.unroll(other), other, prepared, 0.5)
        same = torch.allclose(again.value_target[0, 0], loss.value_target[0, 0])
        hold(same, "nothing after the end of an episode reaches the value's target before it")


def _mean(result: HeadLoss) -> Tensor:
    return masked_mean(result.loss, result.valid)


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _random(seed: int, *shape: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)
