"""From a config to the objects of a run."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import torch
from torch._functorch import config as functorch_config

from agents import seeding
from agents.agent import ActorCritic
from agents.collect import Collector
from agents.gates import AuxiNashConfig, Gate, RotoGradConfig, make
from agents.gates.auxinash import AuxiNash
from agents.heads import AuxiliaryHead, HeadContext
from agents.heads.parts.replay import free_bytes
from agents.hypergradient import LearnedPreference
from agents.learner import Learner, LearnerConfig
from agents.losses import Algorithm
from agents.pipeline import Pipeline
from agents.processes import Processes
from agents.rotated import Rotated, RotationConfig
from agents.seeding import Stream
from agents.tables import TableTeacher
from agents.teacher import PolicyCard, Teacher
from configs.checks import check_gate, check_minibatches, share_of_environments
from configs.errors import UsageError
from configs.hardware import Hardware
from configs.session import Session
from configs.teachers import find_teacher
from configs.train import TrainConfig
from envs import EnvSpec, VecEnv


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
            judging=config.judging,
            seed=run.seed,
        ),
        processes,
        rotated_of(config, agent, heads, processes),
        preference_of(config, gate, processes),
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


def rotated_of(
    config: TrainConfig,
    agent: ActorCritic,
    heads: Mapping[str, AuxiliaryHead],
    processes: Processes,
) -> Rotated | None:
    """What turns the features for each loss, where the gate does."""
    match config.gate:
        case RotoGradConfig(pace=pace, decay=decay, block=block):
            return Rotated(agent, heads, RotationConfig(pace, decay, block), processes)
    return None


def preference_of(
    config: TrainConfig, gate: Gate, processes: Processes
) -> LearnedPreference | None:
    """What learns the gate's preference, where it is learnt."""
    match config.gate, gate:
        case AuxiNashConfig(learn_every=every) as options, AuxiNash() if every > 0:
            return LearnedPreference(
                gate,
                every,
                options.learn_rate,
                terms=options.learn_terms,
                processes=processes,
            )
    return None


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
