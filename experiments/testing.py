"""Checks that components keep their contracts, for plugins and for the tests of this package.

    from experiments.testing import check_gate

    def test_my_gate_keeps_the_contract():
        check_gate(MyGateConfig())

Each function runs the assertions that hold for every component of its kind and raises an
`AssertionError` that says in one sentence which one failed.  They are necessary, not sufficient:
what a component is for, its own tests must say.
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import pairwise
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
from envs import EnvConfig
from envs.base import EnvSpec, Step

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
        _hold(isinstance(gate, Gate), "build() makes a Gate")
        for _ in range(2):  # memory differs the second time
            judgement = judge(gate, rows)
            _hold(_finite(judgement.direction), f"the direction of gradients {case} is finite")
            _hold(_finite(judgement.weights), f"the weights of gradients {case} are finite")
            shape = (1, len(rows) + gate.num_references)
            _hold(judgement.weights.shape == shape, f"there is one weight for each row: {shape}")
    rows = _random(0, 4, 7)
    alone = judge(config.build(), rows[:1]).direction
    _hold(torch.equal(alone, rows[0]), "the main loss alone is left as it is")
    for nothing in (0.0, torch.nan, torch.inf):
        spoilt = torch.cat([rows[:3], torch.full_like(rows[:1], nothing)])
        judgement = judge(config.build(), spoilt)
        same = torch.allclose(judgement.direction, judge(config.build(), rows[:3]).direction)
        _hold(same, f"an auxiliary gradient of {nothing} is as good as none")
    _check_batches(config)
    _check_memory(config)
    if permutes:
        order = [0, 3, 1, 2]
        one, other = judge(config.build(), rows), judge(config.build(), rows[order])
        permuted = torch.allclose(other.weights[..., :4], one.weights[..., order])
        _hold(permuted, "other places of the auxiliary losses give their weights other places")


def _check_batches(config: Any) -> None:
    batched, single = config.build(), [config.build() for _ in range(3)]
    for seed in range(2):
        rows = _random(seed, 3, 3, 7)
        together = judge(batched, rows, (4, 3)).direction
        apart = [judge(gate, row, (4, 3)) for gate, row in zip(single, rows, strict=True)]
        same = torch.allclose(together, torch.stack([each.direction for each in apart]))
        _hold(same, "entries of a leading batch are judged as if they were alone")


def _check_memory(config: Any) -> None:
    gate, restored = config.build(), config.build()
    for seed in range(2):
        judge(gate, _random(seed, 3, 7))
    restored.load_state_dict(gate.state_dict())
    rows = _random(2, 3, 7)
    same = torch.equal(judge(restored, rows).direction, judge(gate, rows).direction)
    _hold(same, "a gate that is restored from its state_dict goes on exactly")


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
        _hold(bool(loss == 0), "there is no loss where no step is valid")
    _hold(fits, "the head fits vectors, symbols or images")


def _check_loss(head: AuxiliaryHead, agent: ActorCritic, trajectory: Trajectory) -> None:
    """The assertions about a head's loss and its gradient on one trajectory."""
    before = [parameter.detach().clone() for parameter in agent.parameters()]
    state = torch.get_rng_state()
    result = evaluate(head, agent, trajectory)
    _hold(result.loss.shape == result.valid.shape, "the mask has the shape of the loss")
    _hold(bool(result.valid.any()), "some of the entries are valid")
    valid = result.loss[result.valid]
    _hold(_finite(valid), "the loss of every valid entry is finite")
    _hold(result.loss.dtype == torch.float32, "the loss is float32")
    signed = not head.non_negative or bool((valid >= 0).all())
    _hold(signed, "a loss that declares to be non-negative is never below zero")
    within = result.loss.shape != (T, B) or not bool((result.valid & ~trajectory.valid).any())
    _hold(within, "a loss per step counts valid steps alone")
    for name, value in result.metrics.items():
        plain = value.shape == () and not value.requires_grad
        _hold(plain, f"the metric {name} is a scalar without gradient")
    _mean(result).backward()
    _hold(bool(head.trains), "the head declares which parts of the agent it trains")
    for name, part in agent.parts.items():
        reached = [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        declared = name in head.trains
        # A head may start from the feature map, which comes before the torso's last layer.
        right = any(reached) if declared else not any(reached)
        _hold(right, f"the loss {'reaches' if declared else 'does not reach'} the {name}")
    trained = all(parameter.grad is not None for parameter in head.parameters())
    _hold(trained, "the loss trains every parameter of the head")
    head.after_update(agent)
    _hold(
        all(map(torch.equal, before, agent.parameters())), "a head changes no weight of the agent"
    )
    same = torch.equal(state, torch.get_rng_state())
    _hold(same, "a head draws from its context's streams, not from torch's own generator")


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
    # Opinions of about one nat; fresh policies are nearly uniform.
    torch.nn.init.normal_(agent.policy.weight, std=0.2 if image else 1.0)
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
    """The head's loss on a trajectory."""
    targets = head.prepare(agent, trajectory)
    loss: HeadLoss = head(agent, agent.unroll(trajectory), trajectory, targets)
    return loss


def check_algorithm(config: Any) -> None:
    """Checks that the main loss of a config keeps the contract of `agents.algorithms.Algorithm`.

    Raises:
        AssertionError: one of the assertions failed.
    """
    algorithm: Algorithm = config.build(0.9)
    _hold(isinstance(algorithm, Algorithm), "build() makes an Algorithm")
    for name in ("value_coefficient", "entropy_coefficient"):
        _hold(0 <= getattr(algorithm, name) < float("inf"), f"{name} is 0 or more and finite")
    for recurrent in (False, True):
        agent, _ = make_context("vectors", recurrent=recurrent)
        trajectory = make_trajectory(agent, SPECS["vectors"])
        targets = algorithm.prepare(trajectory)
        loss = algorithm.loss(agent.unroll(trajectory), trajectory, targets, 0.5)
        for name in ("policy", "value", "entropy", "value_target"):
            term = getattr(loss, name)
            _hold(term.shape == (T, B), f"the term {name} has the shape [T, B]")
            _hold(_finite(term[trajectory.valid]), f"the term {name} of valid steps is finite")
        for name, metric in loss.metrics.items():
            plain = metric.shape == (T, B) and not metric.requires_grad
            _hold(plain, f"the metric {name} has the shape [T, B] and no gradient")
        _hold(not loss.value_target.requires_grad, "the value's target has no gradient")
        # What comes after an end belongs to another episode.
        observation, reward = trajectory.observation.clone(), trajectory.reward.clone()
        observation[2:, 0] += 10.0
        reward[2:, 0] += 10.0
        other = replace(trajectory, observation=observation, reward=reward)
        with torch.no_grad():
            other = replace(other, value=agent.unroll(other).value)
        again = algorithm.loss(agent.unroll(other), other, algorithm.prepare(other), 0.5)
        same = torch.allclose(again.value_target[0, 0], loss.value_target[0, 0])
        _hold(same, "nothing after the end of an episode reaches the value's target before it")


def check_env(config: EnvConfig, name: str, steps: int = 200) -> None:
    """Checks that an environment keeps the contract of `envs.base.VecEnv`.

    Args:
        config: builds the environment.
        name: of the environment, one that the config lists.
        steps: to play at random; some episodes should end within them.

    Raises:
        AssertionError: one of the assertions failed.
    """
    _hold(name in config.names(), f"names() lists {name}")
    with ExitStack() as stack:
        env, twin, stranger = (
            stack.enter_context(closing(config.build(name, B, seed, CPU))) for seed in (0, 0, 1)
        )
        spec = env.spec
        _hold(spec.num_envs == B, "the spec says how many environments were built")
        draws = torch.Generator().manual_seed(0)
        actions = torch.randint(spec.num_actions, (steps, B), generator=draws)
        first, played = env.reset(), []
        copies: list[Tensor] = []
        for action in actions:
            played.append(env.step(action))
            copies.append(played[-1].observation.clone())
        shape, kind = (B, *spec.observation_shape), spec.observation_dtype
        for observation in (first, *(step.observation for step in played)):
            _hold(observation.shape == shape, f"observations have the spec's shape, {shape}")
            _hold(observation.dtype == kind, f"observations have the spec's type, {kind}")
        kept = all(map(torch.equal, copies, (step.observation for step in played)))
        _hold(kept, "observations that were handed out do not change later")
        _check_ends(played)
        again = [twin.reset(), *(twin.step(action).observation for action in actions)]
        expected = [first, *copies]
        _hold(all(map(torch.equal, again, expected)), "the same seed plays the same trajectory")
        other = [stranger.reset(), *(stranger.step(action).observation for action in actions)]
        differs = not all(map(torch.equal, other, expected))
        _hold(differs, "another seed plays another trajectory")
        for wrong in (torch.zeros(B), torch.zeros(B + 1, dtype=torch.int64)):
            try:
                env.step(wrong)
            except Exception:  # a checked annotation may be faster than the environment
                continue
            raise AssertionError("This does not hold: a wrong action is refused.")


def _check_ends(played: Sequence[Step]) -> None:
    """The table of `envs.base`: what is true at the end of an episode and after it."""
    _hold(bool(played[0].valid.all()), "the first step after a reset is valid")
    for step in played:
        _hold(step.reward.dtype == torch.float32, "rewards are float32")
        for name in ("reward", "terminated", "truncated", "valid", "ended"):
            _hold(getattr(step, name).shape == (B,), f"{name} has the shape [B]")
        both = bool((step.terminated & step.truncated).any())
        _hold(not both, "a step that terminates is not truncated as well")
        done = step.terminated | step.truncated
        _hold(not bool((step.ended & ~done).any()), "an episode ends by one of the two ends")
        _hold(not bool((step.truncated & ~step.ended).any()), "a truncation ends an episode")
    for before, step in pairwise(played):
        invalid = before.terminated | before.truncated
        right = torch.equal(step.valid, ~invalid)
        _hold(right, "a step is invalid exactly after a step that terminated or was truncated")
        _hold(not bool(step.reward[invalid].any()), "an invalid step earns nothing")
        ends = (step.terminated | step.truncated | step.ended)[invalid]
        _hold(not bool(ends.any()), "an invalid step ends nothing")


def _hold(holds: bool, what: str) -> None:
    """Fails unless something holds, which is said as it should be."""
    if not holds:
        raise AssertionError(f"This does not hold: {what}.")


def _mean(result: HeadLoss) -> Tensor:
    return masked_mean(result.loss, result.valid)


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _random(seed: int, *shape: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)
