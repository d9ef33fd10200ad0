"""From a config to the objects of a run."""

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from agents import seeding
from agents.agent import ActorCritic
from agents.collect import Collector
from agents.gates import make
from agents.heads import AuxiliaryHead, HeadContext
from agents.learner import Learner, LearnerConfig
from agents.precision import Precision, choose_precision
from agents.teacher import PolicyCard, Teacher, load_teacher
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


def choose_hardware(device_name: str, asked_precision: str, asked_threads: int) -> Hardware:
    """Picks device, precision and threads where the user did not.

    Args:
        device_name: a device, or auto.
        asked_precision: fp32, bf16 or auto.
        asked_threads: of PyTorch on the CPU; 0 chooses.

    Raises:
        UsageError: the device is not there.
    """
    device, reason = choose_device(device_name)
    precision, why = choose_precision(device)
    if asked_precision != "auto":
        precision, why = cast(Precision, asked_precision), "as asked"
    threads, because = choose_threads(asked_threads, device)
    return Hardware(
        device,
        precision,
        threads,
        f"Computing on {device} ({reason}) in {precision} ({why}), "
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({because}).",
    )


def choose_device(name: str) -> tuple[torch.device, str]:
    """Turns `--device` into a device that is there, and says why that one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0), torch.cuda.get_device_name(0)
        return torch.device("cpu"), "no GPU found"
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in ("cpu", *found, *(["cuda"] if found else [])):
        raise UsageError(
            f"--device {name!r} is not available here: use {' or '.join(['cpu', *found])}."
        )
    return torch.device(name), "as asked"


def choose_threads(asked: int, device: torch.device) -> tuple[int, str]:
    """Picks the threads for PyTorch on the CPU, and says why so many.

    The threads of the environments need cores as well.  Torch's own wait for one
    another at every operation, so on two cores two of them are slower than one.
    """
    if asked > 0:
        return asked, "as asked"
    if device.type != "cpu":
        return 1, "the GPU computes"
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if cores <= 2:
        return 1, f"{cores} core{'s' if cores > 1 else ''}, shared with the environments"
    return cores // 2, f"half of {cores} cores, the others are for the environments"


def build(config: TrainConfig, hardware: Hardware) -> Session:
    """Makes everything that a run needs, in an order that keeps runs of one seed alike.

    The agent comes first and every component draws from its own stream, so adding a
    head changes no number of the agent.

    Raises:
        UsageError: what was chosen does not fit together.
    """
    run, choice, device = config.run, config.choice, hardware.device
    try:
        env: VecEnv = config.env.build(choice.env, run.num_envs, run.seed, device)
        with seeding.seeded(run.seed, "agent"):
            torso = config.torso.build(env.spec.observation_shape)
            agent = ActorCritic(torso, env.spec.num_actions, hardware.precision).to(device)
        heads = build_heads(config, hardware, env.spec, agent)
    except ValueError as error:
        raise UsageError(str(error)) from error
    gate = make("sum") if choice.gate is None else make(choice.gate, **asdict(config.gate))
    if config.judging.every > 1:
        _check_reusable(config, scale_free=gate.scale_free)
    learner = Learner(
        agent,
        config.algo.build(run.discount),
        heads,
        gate.to(device),
        LearnerConfig(
            learning_rate=run.learning_rate,
            learning_rate_end=run.learning_rate_end,
            total_steps=run.steps,
            max_gradient_norm=run.max_gradient_norm,
            gate_scope=config.judging.scope,
            gate_every=config.judging.every,
        ),
    )
    if run.compile:
        torso.compile()
    acting = seeding.generator(run.seed, "acting", device)
    return Session(
        env,
        Collector(env, agent, acting, run.unroll_length),
        learner,
        policy_card(config, env.spec),
    )


def build_heads(
    config: TrainConfig, hardware: Hardware, spec: EnvSpec, agent: ActorCritic
) -> dict[str, AuxiliaryHead]:
    """Makes the chosen heads, each on its own stream of random numbers."""

    def teacher_at(path: str) -> Teacher:
        return find_teacher(path, spec, hardware)

    context = HeadContext(spec, agent.torso.num_features, hardware.device, teacher_at)
    heads: dict[str, AuxiliaryHead] = {}
    for name, head in config.heads.items():
        with seeding.seeded(config.run.seed, f"heads.{name}"):
            heads[name] = head.build(context).to(hardware.device)
    return heads


def find_teacher(path: str, spec: EnvSpec, hardware: Hardware) -> Teacher:
    """Loads the teacher at `path`, or the one shipped for the environment.

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
    except ValueError as error:
        raise UsageError(
            f"--teacher: {error}; give a run or an exported policy of {spec.name}."
        ) from error


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
    )


def _check_reusable(config: TrainConfig, *, scale_free: bool) -> None:
    if not scale_free:
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
