"""From a config to the objects of a run."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch._functorch import config as functorch_config

from agents.algorithms import Algorithm
from agents.gates import make
from agents.heads import AuxiliaryHead, HeadContext
from agents.heads.components.replay import free_bytes
from agents.learning.learner import Learner, LearnerConfig
from agents.networks.actor_critic import ActorCritic
from agents.rollout.collector import Collector
from agents.rollout.pipeline import Pipeline
from agents.runtime import random as seeding
from agents.runtime.random import Stream
from agents.teachers import OtherActionsError, PolicyCard, TableTeacher, Teacher, load_teacher
from configs.errors import UsageError
from configs.training import TrainConfig
from envs import EnvSpec, VecEnv
from experiments.training.checks import check_gate, check_minibatches, share_of_environments
from experiments.training.hardware import Hardware
from experiments.training.session import Session

# The teacher that a run asks for, or how to get one.

SHIPPED_TEACHERS = Path(__file__).resolve().parents[2] / "teachers"


def find_teacher(path: str, spec: EnvSpec, hardware: Hardware, own: Sequence[str] = ()) -> Teacher:
    """Loads the teacher at `path`, or the one shipped for an environment without its own.

    Raises:
        UsageError: there is none, or it does not fit; says how to get one.
    """
    shipped = SHIPPED_TEACHERS / spec.name
    if not path and not shipped.is_dir():
        raise UsageError(
            f"--aux distill needs a teacher and none is shipped for {spec.name}: train one with "
            f"'python train.py --env {spec.name} --run-dir runs/teacher-{spec.name}' and give "
            f"--teacher runs/teacher-{spec.name}."
        )
    try:
        return load_teacher(
            Path(path) if path else shipped, spec, hardware.device, hardware.precision
        )
    except OtherActionsError as error:
        raise UsageError(f"--teacher: {error}; {_fitting_teacher(error.card, spec)}.") from error
    except ValueError as error:
        others = f" in the same worlds, or one of {', '.join(own)}" if own else ""
        raise UsageError(
            f"--teacher: {error}; give a run or an exported policy of {spec.name}{others}."
        ) from error


def _fitting_teacher(card: PolicyCard, spec: EnvSpec) -> str:
    """How to get a teacher that has the student's actions."""
    theirs, ours = (protocol.partition("+")[0] for protocol in (card.protocol, spec.protocol))
    if card.env != spec.name or theirs == ours:
        return f"give a run or an exported policy of {spec.name} with the same actions"
    folder = f"runs/teacher-{spec.name}-{ours}"
    return (
        f"play by its protocol (--protocol {theirs}), or train a teacher by yours ('python "
        f"train.py --env {spec.name} --protocol {ours} --run-dir {folder}') and give --teacher "
        f"{folder}"
    )


def build(config: TrainConfig, hardware: Hardware, step: int = 0) -> Session:
    """Makes everything that a run needs, in an order that keeps runs of one seed alike.

    The agent comes first and every component draws from its own stream, so adding a
    head changes no number of the agent.

    Args:
        config: of the run.
        hardware: what it computes on.
        step: agent steps already made; a run that goes on meets other episodes.

    Raises:
        UsageError: what was chosen does not fit together.
    """
    run, choice, device, processes = config.run, config.choice, hardware.device, hardware.processes
    part = "" if step == 0 and processes.leads else f" from {step} at {processes.rank}"
    try:
        num_envs = share_of_environments(config, processes)
        env_seed = seeding.derived_seed(run.seed, f"environment{part}") if part else run.seed
        env: VecEnv = config.env.build(choice.env, num_envs, env_seed, device)
        agent = build_agent(config, hardware, env.spec)
        heads = build_heads(config, hardware, env, agent)
    except ValueError as error:
        raise UsageError(str(error)) from error
    algorithm: Algorithm = config.algo.build(run.discount, processes)
    check_minibatches(config, algorithm, num_envs)
    gate = make("sum") if choice.gate is None else make(choice.gate, **asdict(config.gate))
    check_gate(config, gate, num_envs // algorithm.minibatches)
    learner = Learner(
        agent,
        algorithm,
        heads,
        gate.to(device),
        LearnerConfig(
            learning_rate=run.learning_rate,
            learning_rate_end=run.learning_rate_end,
            total_steps=run.steps,
            max_gradient_norm=run.max_gradient_norm,
            gating=config.judging,
            normalize_value=run.normalize_value,
            seed=run.seed,
        ),
        processes,
    )
    player = copy.deepcopy(agent) if run.pipeline else agent
    collector = Collector(
        env,
        player,
        seeding.generator(run.seed, f"acting{part}", device),
        run.unroll_length,
        records_value=algorithm.needs_value,
    )
    if run.compile:
        # A gate that judges goes through the torso's graph once per loss, so no pass may give
        # away what the next one needs.
        functorch_config.donated_buffer = False
        for network in {agent.torso, player.torso}:
            network.compile()
    return Session(
        env,
        Pipeline(collector, player, agent) if run.pipeline else collector,
        learner,
        policy_card(config, env.spec),
        processes,
        hardware.threads,
    )


def build_agent(config: TrainConfig, hardware: Hardware, spec: EnvSpec) -> ActorCritic:
    """Makes the agent with the initial weights of the run's seed."""
    with seeding.seeded(config.run.seed, "agent"):
        torso = config.torso.build(spec.observation_shape, spec.num_symbols)
        core = config.core.build(torso.num_features, spec.num_actions)
        agent = ActorCritic(torso, spec.num_actions, hardware.precision, core)
    return agent.to(hardware.device)


def build_heads(
    config: TrainConfig, hardware: Hardware, env: VecEnv, agent: ActorCritic
) -> dict[str, AuxiliaryHead]:
    """Makes the chosen heads, each on its own stream of random numbers.

    Raises:
        ValueError: a head does not fit the environment; what they hold does not fit into memory.
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
    for name, head in config.heads.items():
        context = HeadContext(
            spec=env.spec,
            torso=agent.torso,
            num_features=agent.num_features,
            device=hardware.device,
            load_teacher=teacher_at,
            stream=partial(stream_of, name),
            discount=run.discount,
            unroll_length=run.unroll_length,
        )
        with seeding.seeded(config.run.seed, f"heads.{name}"):
            heads[name] = head.build(context).to(hardware.device)
    check_memory(heads, hardware.device)
    return heads


def check_memory(heads: Mapping[str, AuxiliaryHead], device: torch.device) -> None:
    """Refuses heads of which each fits into memory, and all together do not.

    Raises:
        ValueError: they do not.
    """
    held = sum(head.held_bytes for head in heads.values())
    free = free_bytes(device)
    if free is not None and held > free:
        raise ValueError(
            f"--aux {' '.join(heads)} hold {held / 2**30:.1f} GiB together, but "
            f"{free / 2**30:.1f} GiB are free on {device}: drop one, or remember less "
            "(--aux.HEAD.replay-steps)."
        )


def policy_card(config: TrainConfig, spec: EnvSpec) -> PolicyCard:
    """What an exported policy of this run will say of itself."""
    return PolicyCard(
        env=spec.name,
        action_set=spec.action_set,
        num_actions=spec.num_actions,
        observation_shape=spec.observation_shape,
        observation_dtype=str(spec.observation_dtype),
        protocol=spec.protocol,
        torso=config.choice.torso,
        torso_options=asdict(config.torso),
        steps=0,
        env_options=asdict(config.env),
        core=config.choice.core,
        core_options=asdict(config.core),
        num_symbols=spec.num_symbols,
        world_set=spec.world_set,
    )
