"""The tasks of a run: the agent, algorithm and heads of each, built from the run's config."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from agents.algorithms import Algorithm
from agents.gates import Gate
from agents.heads import AuxiliaryHead, HeadContext
from agents.learning.tasks import Task
from agents.networks.actor_critic import ActorCritic
from agents.runtime import random as seeding
from agents.runtime.random import Stream
from agents.teachers import TableTeacher, Teacher
from configs.errors import UsageError, naming
from configs.tasks import chosen, of_each, reordered, tasks_of
from configs.training import TrainConfig
from envs import EnvSpec, VecEnv
from envs.base import free_bytes, guarding
from envs.tasks import TaskName
from experiments.training.hardware import Hardware
from experiments.training.teachers import find_teacher


def build_tasks(
    config: TrainConfig, hardware: Hardware, env: VecEnv, algorithm: Algorithm
) -> list[Task]:
    """Makes agent and heads of every task, the main one first.

    Args:
        config: of the run.
        hardware: what it computes on.
        env: of all tasks, in their order.
        algorithm: of the main task; the others get their own.

    Raises:
        ValueError: a head does not fit the environment, or the heads do not fit into memory.
    """
    agent = build_agent(config, hardware, env.spec)
    if config.tasks is None:
        heads = build_heads(config, hardware, env, agent)
        check_memory(heads, hardware.device)
        return [Task(agent, algorithm, heads)]
    only = config.tasks.heads
    names = tasks_of(config.choice.env, config.choice.family)
    with_heads = names if not only else [chosen("--tasks.heads", only, names)]
    tasks: list[Task] = []
    start = 0
    for name, own in zip(config.task_names, env.tasks, strict=True):
        label = name.label
        acts = task_agent(config, hardware, own.spec, tasks[0].agent if tasks else agent, label)
        heads = {}
        if name in with_heads:
            try:
                heads = build_heads(config, hardware, own, acts, name)
            except UsageError as error:
                other = "" if only else " Or --tasks.heads gives heads to another task alone."
                raise UsageError(f"{error}{other}") from error
        main = algorithm
        if tasks:
            main = config.algo.build(config.run.discount, hardware.processes)
        count = own.spec.num_envs
        tasks.append(Task(acts, main, heads, label if tasks else "", (start, count)))
        start += count
    check_memory(
        {name: head for task in tasks for name, head in task.heads.items()}, hardware.device
    )
    return tasks


def task_agent(
    config: TrainConfig, hardware: Hardware, spec: EnvSpec, first: ActorCritic, label: str
) -> ActorCritic:
    """Makes the agent of a task: torso and core are another's, policy and value its own.

    Args:
        config: of the run.
        hardware: device and precision.
        spec: of the task's environments.
        first: the agent whose torso and core are taken.
        label: of the task.

    Raises:
        UsageError: a shared policy cannot serve the task.
    """
    with seeding.seeded(config.run.seed, f"agent {label}"):
        agent = ActorCritic(first.torso, spec.num_actions, hardware.precision, first.core)
    assert config.tasks is not None
    if config.tasks.policy == "shared":
        if first.policy.out_features != spec.num_actions:
            raise UsageError(
                f"--tasks.policy shared needs tasks with the same actions, but {label} has "
                f"{spec.num_actions} and another {first.policy.out_features}: drop it."
            )
        agent.policy = first.policy
    return agent.to(hardware.device)


def build_env(config: TrainConfig, num_envs: int, seed: int, device: torch.device) -> VecEnv:
    """Starts the environments of all tasks, those of the main one first.

    Args:
        config: of the run.
        num_envs: of this process.
        seed: of the environments.
        device: where they live.

    Raises:
        ValueError: they cannot be built.
    """
    name, options = config.choice.env, config.env
    if config.tasks is not None:
        name, options = reordered(name, options, config.task_names)
    with naming(config.env, "env"), guarding(config.choice.env, ValueError):
        env: VecEnv = options.build(name, num_envs, seed, device)
    return env


def check_tasks(config: TrainConfig, gate: Gate) -> None:
    """Refuses what several tasks cannot have.

    Args:
        config: of the run.
        gate: that was chosen.

    Raises:
        UsageError: it names the option.
    """
    if config.tasks is None:
        return
    reasons = {
        f"--algo {config.choice.algo}": config.choice.algo in ("ppg", "none"),
        "--gate.at features": config.judging.at == "features",
        f"--gate {config.choice.gate}": gate.slices > 0 or gate.needs_network,
    }
    unfit = next((option for option, holds in reasons.items() if holds), None)
    if unfit is not None:
        raise UsageError(f"{unfit} is for one task, and {config.choice.env} are several: drop it.")


def build_agent(config: TrainConfig, hardware: Hardware, spec: EnvSpec) -> ActorCritic:
    """Makes the agent with the initial weights of the run's seed.

    Args:
        config: chooses torso and core, and has the seed.
        hardware: device and precision.
        spec: of the environment: observations and actions.
    """
    with seeding.seeded(config.run.seed, "agent"):
        with naming(config.torso, f"torso.{config.choice.torso}"):
            torso = config.torso.build(spec.observation_shape, spec.num_symbols)
        with naming(config.core, f"core.{config.choice.core}"):
            core = config.core.build(torso.num_features, spec.num_actions)
        agent = ActorCritic(torso, spec.num_actions, hardware.precision, core)
    return agent.to(hardware.device)


def build_heads(
    config: TrainConfig,
    hardware: Hardware,
    env: VecEnv,
    agent: ActorCritic,
    task: TaskName | None = None,
) -> dict[str, AuxiliaryHead]:
    """Makes the chosen heads, each with its own stream of random numbers.

    Args:
        config: of the run.
        hardware: what it computes on.
        env: the environment, which may have teachers.
        agent: whose torso and features the heads use.
        task: whose heads they are; None where there is only one.

    Returns:
        The heads by name, in the order of the command line.

    Raises:
        ValueError: a head does not fit the environment, or the heads do not fit into memory.
    """

    def teacher_at(path: str) -> Teacher:
        name = path or "".join(env.teachers[:1])
        if name in env.teachers:
            return TableTeacher(env.teacher_logits(name), f"{name} of {env.spec.world_set}")
        return find_teacher(path, env.spec, hardware, env.teachers)

    run, rank = config.run, hardware.processes.rank

    def stream_of(head: str, name: str) -> Stream:
        host = torch.device("cpu")
        return Stream(seeding.generator(run.seed, f"heads.{head}.{name} at {rank}", host))

    heads: dict[str, AuxiliaryHead] = {}
    for kind, head in config.heads.items():
        name = kind if task is None else f"{task.label}:{kind}"
        context = HeadContext(
            spec=env.spec,
            torso=agent.torso,
            num_features=agent.num_features,
            device=hardware.device,
            load_teacher=teacher_at,
            stream=partial(stream_of, name),
            discount=run.discount,
            unroll_length=run.unroll_length,
            action_names=lambda: env.action_names,
        )
        with seeding.seeded(config.run.seed, f"heads.{name}"), naming(head, f"aux.{kind}"):
            heads[name] = _of_task(head, config, task).build(context).to(hardware.device)
    return heads


def _of_task(head: Any, config: TrainConfig, task: TaskName | None) -> Any:
    """The head's config, with the teacher of one task where there is one for each."""
    if task is None or not getattr(head, "teacher", ""):
        return head
    names = tasks_of(config.choice.env, config.choice.family)
    return replace(head, teacher=of_each(head.teacher, names, "--teacher")[names.index(task)])


def check_memory(heads: Mapping[str, AuxiliaryHead], device: torch.device) -> None:
    """Refuses heads that fit into memory one by one but not together.

    Raises:
        ValueError: they do not fit.
    """
    held = sum(head.held_bytes for head in heads.values())
    free = free_bytes(device)
    if free is not None and held > free:
        raise ValueError(
            f"--aux {' '.join(heads)} hold {held / 2**30:.1f} GiB together, but "
            f"{free / 2**30:.1f} GiB are free on {device}: drop one, or remember less "
            "(--aux.HEAD.replay-steps)."
        )
