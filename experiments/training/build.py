"""Builds the objects of a run from its config, and refuses what does not fit together."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import prod

import torch
from torch import nn
from torch._functorch import config as functorch_config

from agents.algorithms import Algorithm
from agents.gates import Gate, make
from agents.gates.base import GatingContext
from agents.gates.checks import check_at_features
from agents.heads import AuxiliaryHead
from agents.learning.learner import Learner, LearnerConfig
from agents.networks.actor_critic import ActorCritic
from agents.rollout.collector import Collector
from agents.rollout.pipeline import Pipeline
from agents.runtime import random as seeding
from agents.runtime.distributed import Processes
from configs.errors import UsageError
from configs.training import TrainConfig
from envs import EnvSpec, VecEnv
from envs.base import free_bytes, is_out_of_memory
from experiments.training.capturing import capture
from experiments.training.hardware import Hardware
from experiments.training.session import Session, identity, policy_cards
from experiments.training.tasks import build_env, build_tasks, check_tasks


@dataclass(frozen=True)
class Parts:
    """The classes that a run is built from; an experiment replaces those that it studies."""

    collector: Callable[..., Collector] = Collector
    """Called as `Collector` is."""
    learner: Callable[..., Learner] = Learner
    """Called as `Learner` is."""
    variant: str = ""
    """A name for the replacement, which `versions.json` records; empty without one."""


USUAL = Parts()


def build(
    config: TrainConfig,
    hardware: Hardware,
    step: int = 0,
    parts: Parts = USUAL,
    *,
    tries_teachers: bool = True,
) -> Session:
    """Builds the objects of a run, in an order that keeps runs of one seed alike.

    The agent comes first and every component draws from its own stream, so adding a
    head changes no number of the agent.

    Args:
        config: of the run.
        hardware: what it computes on.
        step: agent steps that the run has made; a run that continues gets new episodes.
        parts: the classes of collector and learner.
        tries_teachers: whether a new run plays the trials that its heads ask for.

    Returns:
        The session, ready for its first update or for a checkpoint to be restored.

    Raises:
        UsageError: the chosen components do not fit together.
    """
    run, device, processes = config.run, hardware.device, hardware.processes
    part = "" if step == 0 and processes.leads else f" from {step} at {processes.rank}"
    try:
        num_envs = share_of_environments(config, processes)
        check_size(num_envs * run.unroll_length * STEP_BYTES, device)
        env_seed = seeding.derived_seed(run.seed, f"environment{part}") if part else run.seed
        env = build_env(config, num_envs, env_seed, device)
        check_size(trajectory_bytes(config, env.spec), device)
        check_size(network_bytes(config, env.spec), device)
        algorithm: Algorithm = config.algo.build(run.discount, processes)
        tasks = build_tasks(config, hardware, env, algorithm)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(f"The run does not fit into memory: {SMALLER}.") from error
    agent, heads = tasks[0].agent, {n: head for task in tasks for n, head in task.heads.items()}
    gate = gate_of(config)
    check_tasks(config, gate)
    num_envs = min(own.spec.num_envs for own in env.tasks)
    check_update(config, algorithm, gate, num_envs, heads)
    try:
        if step == 0 and tries_teachers:
            for index, task in enumerate(tasks):
                rehearsal = partial(rehearse, config, env, env_seed, index)
                for name, head in task.heads.items():
                    trial = seeding.generator(run.seed, f"trial of {name}{part}", device)
                    head.before_training(rehearsal, trial)
        learner = parts.learner(
            agent,
            algorithm,
            tasks[0].heads,
            gate.to(device),
            LearnerConfig(
                learning_rate=run.learning_rate,
                learning_rate_end=run.learning_rate_end,
                total_steps=run.steps,
                max_gradient_norm=run.max_gradient_norm,
                adam_beta_1=run.adam_beta_1,
                gating=config.judging,
                normalize_value=run.normalize_value,
                seed=run.seed,
            ),
            processes,
            tasks,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    learned = nn.ModuleList([task.agent for task in tasks])
    players = copy.deepcopy(learned) if run.pipeline else learned
    player, *others = list(players)
    assert isinstance(player, ActorCritic)
    acting = seeding.generator(run.seed, f"acting{part}", device)
    collector = parts.collector(
        env,
        player,
        acting,
        run.unroll_length,
        records_value=algorithm.needs_value,
        others=others,
    )
    if run.compile:
        # A gate that weighs gradients runs backward through the torso once per loss, so no
        # pass may free buffers that the next one needs.
        functorch_config.donated_buffer = False
        for network in {agent.torso, player.torso}:
            network.compile()
    plays = Pipeline(collector, players, learned) if run.pipeline else collector
    graphs = capture(config, hardware, learner, plays, acting, resumes=step > 0)
    return Session(
        env,
        plays,
        learner,
        policy_cards(config, env),
        processes,
        hardware.threads,
        identity=identity(config),
        graphs=graphs,
    )


@contextmanager
def rehearse(config: TrainConfig, env: VecEnv, seed: int, task: int) -> Iterator[VecEnv]:
    """Builds environments like a run's, for what heads play before it begins.

    Args:
        config: of the run.
        env: of the run, which is left alone.
        seed: of the environments: the worlds are those of the run.
        task: whose environments are wanted.

    Raises:
        ValueError: they cannot be built.
    """
    stage = build_env(config, env.spec.num_envs, seed, env.device)
    try:
        yield stage.tasks[task]
    finally:
        stage.close()


def gate_of(config: TrainConfig) -> Gate:
    """Makes the gate of a run; without one, losses are summed."""
    name = config.choice.gate
    return make("sum") if name is None else make(name, **asdict(config.gate))


STEP_BYTES = 8 + 3 * 4 + 4
"""Of one step of a trajectory: action, reward, two numbers of the policy, four flags."""


def trajectory_bytes(config: TrainConfig, spec: EnvSpec) -> int:
    """The least that a trajectory takes; two of them in a pipeline."""
    observation = prod(spec.observation_shape) * spec.observation_dtype.itemsize
    length = config.run.unroll_length
    one = spec.num_envs * ((length + 1) * observation + length * STEP_BYTES)
    return one * (2 if config.run.pipeline else 1)


def network_bytes(config: TrainConfig, spec: EnvSpec) -> int:
    """The least that torso and core take: weights, gradients and two moments; 0 where unknown."""
    try:
        with torch.device("meta"):  # shapes without numbers
            torso = config.torso.build(spec.observation_shape, spec.num_symbols)
            core = config.core.build(torso.num_features, spec.num_actions)
    except Exception as error:  # a plugin's module may need real numbers; or it is beyond counting
        if is_out_of_memory(error):
            raise ValueError(f"The network is too large: {SMALLER}.") from error
        return 0
    modules = [torso] if core is None else [torso, core]
    numbers: int = sum(p.numel() for module in modules for p in module.parameters())
    return 16 * numbers


SMALLER = "use fewer --num-envs, a shorter --unroll-length, or smaller layers or observations"


def check_size(least: int, device: torch.device) -> None:
    """Refuses a run that does not fit into memory, before anything large is made.

    Args:
        least: bytes that it takes at the very least.
        device: where.

    Raises:
        ValueError: fewer are free.
    """
    free = free_bytes(device)
    if free is not None and least > free:
        raise ValueError(
            f"The run needs {least / 2**30:,.1f} GiB or more, but {free / 2**30:.1f} GiB are free "
            f"on {device}: {SMALLER}."
        )


def share_of_environments(config: TrainConfig, processes: Processes) -> int:
    """The number of environments of each process.

    Raises:
        UsageError: they cannot be shared evenly.
    """
    num_envs, size = config.run.num_envs, processes.size
    if num_envs % size:
        raise UsageError(
            f"--num-envs {num_envs} cannot be shared by {size} processes evenly: use a multiple "
            f"of {size}."
        )
    return num_envs // size


def check_update(
    config: TrainConfig,
    algorithm: Algorithm,
    gate: Gate,
    num_envs: int,
    heads: Mapping[str, AuxiliaryHead] | None = None,
) -> None:
    """Refuses updates that cannot be made, from what costs nothing to build.

    Args:
        config: of the run.
        algorithm: that was chosen.
        gate: that was chosen.
        num_envs: of the smallest task in this process.
        heads: by name, where they are built.

    Raises:
        UsageError: a minibatch or the gate cannot be as it is asked for.
    """
    check_minibatches(config, algorithm, num_envs)
    minibatches = max(algorithm.minibatches, algorithm.phase_minibatches)
    check_gate(config, gate, num_envs // minibatches, heads)
    check_losses(config, gate, algorithm)


def check_minibatches(config: TrainConfig, algorithm: Algorithm, num_envs: int) -> None:
    """Refuses more minibatches than a process has environments, which they are slices of.

    Args:
        config: of the run.
        algorithm: whose minibatches are checked.
        num_envs: in this process.

    Raises:
        UsageError: there are.
    """
    if num_envs < algorithm.minibatches:
        each = " of each task" if config.tasks is not None else ""
        each = each or (" in each process" if num_envs < config.run.num_envs else "")
        flag = f"--algo.{config.choice.algo}.minibatches"
        raise UsageError(
            f"{flag} {algorithm.minibatches} is more than the environments{each}, {num_envs}, and "
            f"a minibatch is a slice of them: use {flag} {num_envs}, or more --num-envs."
        )


def check_gate(
    config: TrainConfig,
    gate: Gate,
    environments: int,
    heads: Mapping[str, AuxiliaryHead] | None = None,
) -> None:
    """Refuses what a gate cannot do, or what would do nothing.

    Args:
        config: of the run.
        gate: that was chosen.
        environments: of one update in this process: a minibatch's.
        heads: by name.

    Raises:
        UsageError: it names the option.
    """
    judging = config.judging
    context = GatingContext(
        scope=judging.scope,
        every=judging.every,
        main=judging.main,
        metric=judging.metric,
        at=judging.at,
        environments=environments,
        compiled=config.run.compile,
        has_policy_loss=config.choice.algo != "none",
    )
    try:
        gate.check_context(context)
        if judging.at == "features":
            bypassing = [name for name, head in (heads or {}).items() if head.bypasses_features]
            check_at_features(gate, judging.metric, bypassing)
    except ValueError as error:
        raise UsageError(f"--gate.{error}") from error


def check_losses(config: TrainConfig, gate: Gate, algorithm: Algorithm) -> None:
    """Refuses a gate that cannot weigh so many losses.

    Args:
        config: of the run.
        gate: that was chosen.
        algorithm: in whose auxiliary phase, if it has one, there are two losses.

    Raises:
        UsageError: it cannot.
    """
    tasks = max(1, len(config.task_names))
    with_heads = 1 if config.tasks is not None and config.tasks.heads else tasks
    numbers = [tasks + with_heads * len(config.choice.aux)]
    if algorithm.phase_trains:
        numbers.append(2)
    try:
        for number in numbers:
            if number > 1 and not gate.one_pass:  # else there is nothing to weigh
                gate.check(number)
    except ValueError as error:
        raise UsageError(f"--gate {config.choice.gate}: {error}") from error
