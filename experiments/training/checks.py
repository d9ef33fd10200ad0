"""What was chosen must fit together; where it does not, one sentence says what to change."""

from agents.algorithms import Algorithm
from agents.gates import Gate
from agents.runtime.distributed import Processes
from configs.errors import UsageError
from configs.training import TrainConfig


def share_of_environments(config: TrainConfig, processes: Processes) -> int:
    """How many environments each process plays.

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


def check_minibatches(config: TrainConfig, algorithm: Algorithm, num_envs: int) -> None:
    """Refuses minibatches that are not equal slices of a process's environments."""
    if num_envs % algorithm.minibatches:
        each = " in each process" if num_envs < config.run.num_envs else ""
        raise UsageError(
            f"--algo.{config.choice.algo}.minibatches {algorithm.minibatches} does not divide the "
            f"{num_envs} environments{each}, and a minibatch is a slice of them: change it, or "
            "--num-envs."
        )


def check_gate(config: TrainConfig, gate: Gate, environments: int) -> None:
    """Refuses what a gate cannot do, or what would do nothing.

    Args:
        config: of the run.
        gate: that was chosen.
        environments: of one update in this process: a minibatch's.
    """
    _check_measure(config, gate)
    _check_every(config, gate)
    _check_method(config, gate)
    name = config.choice.gate
    if gate.slices > environments:
        raise UsageError(
            f"--gate.{name}.slices {gate.slices} cuts the environments of an update, of which "
            f"there are {environments}: use fewer slices, fewer minibatches or more --num-envs."
        )
    if name == "attittud" and config.gate.fresh:
        raise UsageError(
            "--gate.attittud.fresh needs a second batch, which train.py does not play: drop it."
        )


def _check_measure(config: TrainConfig, gate: Gate) -> None:
    judging, name = config.judging, config.choice.gate
    for flag, value, plain in (
        ("--gate.main", judging.main, "all"),
        ("--gate.metric", judging.metric, "plain"),
    ):
        if value != plain and gate.one_pass:
            raise UsageError(
                f"{flag} {value} has no effect on --gate {name}, which compares nothing: drop it, "
                f"or add --gate.{name}.measure for the log."
            )
    if judging.main == "policy" and config.choice.algo == "none":
        raise UsageError(
            "--gate.main policy needs a policy loss, which --algo none lacks: drop it."
        )


def _check_method(config: TrainConfig, gate: Gate) -> None:
    """Refuses what does not go with a method that has another half outside the gate."""
    if not gate.needs_network:
        return
    judging, name = config.judging, config.choice.gate
    learnt = name == "auxinash"
    whose = "a learnt preference" if learnt else f"--gate {name}"
    judges = "one judgement of plain gradients" if learnt else "gradients over features"
    for flag, value, plain in (
        ("--gate.scope", judging.scope, "shared"),
        ("--gate.main", judging.main, "all"),
        ("--gate.metric", judging.metric, "plain"),
    ):
        if value != plain:
            raise UsageError(f"{flag} {value} is not for {whose}, which needs {judges}: drop it.")
    if learnt and config.run.compile:
        raise UsageError(
            "--gate.auxinash.learn-every takes second derivatives, which a compiled torso does "
            "not have: drop --compile."
        )


def _check_every(config: TrainConfig, gate: Gate) -> None:
    every = config.judging.every
    if every == 1:
        return
    if not gate.scale_free:
        raise UsageError(
            f"--gate.every {every} reuses weights, but those of --gate {config.choice.gate} depend "
            "on the sizes of the gradients: use --gate.every 1, or --gate cosine."
        )
    if config.judging.scope != "shared":
        raise UsageError(
            f"--gate.every {every} needs one weight for all shared parameters: use --gate.scope "
            "shared."
        )
