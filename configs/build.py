"""From a config to the objects of a run."""

import copy
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from agents import seeding
from agents.agent import ActorCritic
from agents.collect import Collector
from agents.gates import Gate, make
from agents.heads import AuxiliaryHead, HeadContext
from agents.learner import Learner, LearnerConfig
from agents.losses import Algorithm
from agents.pipeline import Pipeline
from agents.precision import Precision, choose_precision
from agents.processes import ALONE, Processes, join
from agents.tables import TableTeacher
from agents.teacher import OtherActionsError, PolicyCard, Teacher, load_teacher
from configs.errors import UsageError
from configs.session import Session
from configs.train import TrainConfig
from envs import EnvSpec, VecEnv

SHIPPED_TEACHERS = Path(__file__).resolve().parent.parent / "teachers"


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes, with the reasons for the log."""

    device: torch.device
    precision: Precision
    threads: int
    reason: str
    processes: Processes = ALONE


def choose_hardware(
    device_name: str, asked_precision: str, asked_threads: int, *, playing: bool = False
) -> Hardware:
    """Picks device, precision and threads where the user did not, and joins other processes.

    Args:
        device_name: a device, or auto.
        asked_precision: fp32, bf16 or auto.
        asked_threads: of PyTorch on the CPU; 0 chooses.
        playing: whether environments play while PyTorch computes.

    Raises:
        UsageError: the device is not there.
    """
    device, reason = choose_device(device_name)
    processes = join(device)
    precision, why = choose_precision(device)
    if asked_precision != "auto":
        precision, why = cast(Precision, asked_precision), "as asked"
    threads, because = choose_threads(
        asked_threads, device, playing=playing, processes=processes.size
    )
    together = f", {processes.size} processes" if processes.size > 1 else ""
    return Hardware(
        device,
        precision,
        threads,
        f"Computing on {device} ({reason}) in {precision} ({why}), "
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({because}){together}.",
        processes,
    )


def choose_device(name: str) -> tuple[torch.device, str]:
    """Turns `--device` into a device that is there, and says why that one."""
    # torchrun numbers the processes of a machine; each takes a GPU of its own.
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", index), torch.cuda.get_device_name(index)
        return torch.device("cpu"), "no GPU found"
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in ("cpu", *found, *(["cuda"] if found else [])):
        raise UsageError(
            f"--device {name!r} is not available here: use {' or '.join(['cpu', *found])}."
        )
    return torch.device("cuda", index) if name == "cuda" else torch.device(name), "as asked"


def choose_threads(
    asked: int, device: torch.device, *, playing: bool = False, processes: int = 1
) -> tuple[int, str]:
    """Picks the threads that PyTorch learns with on the CPU, and says why so many.

    Environments and acting have the cores while they play, learning has them afterwards;
    in a pipeline both need them at once.
    """
    if asked > 0:
        return asked, "as asked"
    if device.type != "cpu":
        return 1, "the GPU computes"
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores = max(1, cores // processes)
    if playing:
        return max(1, cores // 2), f"half of {cores} cores, the environments play meanwhile"
    return cores, "all cores, while no environment plays; fewer if others need them"


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
        num_envs = _share_of_environments(config, processes)
        env_seed = seeding.derived_seed(run.seed, f"environment{part}") if part else run.seed
        env: VecEnv = config.env.build(choice.env, num_envs, env_seed, device)
        agent = build_agent(config, hardware, env.spec)
        heads = build_heads(config, hardware, env, agent)
    except ValueError as error:
        raise UsageError(str(error)) from error
    algorithm: Algorithm = config.algo.build(run.discount, processes)
    _check_minibatches(config, algorithm, num_envs)
    gate = make("sum") if choice.gate is None else make(choice.gate, **asdict(config.gate))
    _check_gate(config, gate)
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
            gate_scope=config.judging.scope,
            gate_every=config.judging.every,
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
        core = config.core.build(torso.num_features)
        agent = ActorCritic(torso, spec.num_actions, hardware.precision, core)
    return agent.to(hardware.device)


def build_heads(
    config: TrainConfig, hardware: Hardware, env: VecEnv, agent: ActorCritic
) -> dict[str, AuxiliaryHead]:
    """Makes the chosen heads, each on its own stream of random numbers."""

    def teacher_at(path: str) -> Teacher:
        name = path or "".join(env.teachers[:1])
        if name in env.teachers:
            return TableTeacher(env.teacher_logits(name), f"{name} of {env.spec.world_set}")
        return find_teacher(path, env.spec, hardware, env.teachers)

    context = HeadContext(env.spec, agent.num_features, hardware.device, teacher_at)
    heads: dict[str, AuxiliaryHead] = {}
    for name, head in config.heads.items():
        with seeding.seeded(config.run.seed, f"heads.{name}"):
            heads[name] = head.build(context).to(hardware.device)
    return heads


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


def _share_of_environments(config: TrainConfig, processes: Processes) -> int:
    num_envs, size = config.run.num_envs, processes.size
    if num_envs % size:
        raise UsageError(
            f"--num-envs {num_envs} cannot be shared by {size} processes evenly: use a multiple "
            f"of {size}."
        )
    return num_envs // size


def _check_minibatches(config: TrainConfig, algorithm: Algorithm, num_envs: int) -> None:
    if num_envs % algorithm.minibatches:
        each = " in each process" if num_envs < config.run.num_envs else ""
        raise UsageError(
            f"--algo.{config.choice.algo}.minibatches {algorithm.minibatches} does not divide the "
            f"{num_envs} environments{each}, and a minibatch is a slice of them: change it, or "
            "--num-envs."
        )


def _check_gate(config: TrainConfig, gate: Gate) -> None:
    if gate.sample_rows > 0:
        raise UsageError(f"--gate {config.choice.gate} is not for train.py yet: use --gate cosine.")
    if config.judging.every == 1:
        return
    if not gate.scale_free:
        raise UsageError(
            f"--gate.every {config.judging.every} reuses weights, but those of --gate "
            f"{config.choice.gate} depend on the sizes of the gradients: use --gate.every 1, or "
            "--gate cosine."
        )
    if config.judging.scope != "shared":
        raise UsageError(
            f"--gate.every {config.judging.every} needs one weight for all shared parameters: "
            "use --gate.scope shared."
        )
