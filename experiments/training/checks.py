"""What was chosen must fit together; where it does not, one sentence says what to change."""

from agents.algorithms import Algorithm
from agents.gates import Gate
from agents.gates.base import GatingContext
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

    Raises:
        UsageError: it names the option.
    """
    judging = config.judging
    context = GatingContext(
        scope=judging.scope,
        every=judging.every,
        main=judging.main,
        metric=judging.metric,
        environments=environments,
        compiled=config.run.compile,
        has_policy_loss=config.choice.algo != "none",
    )
    try:
        gate.check_context(context)
    except ValueError as error:
        raise UsageError(f"--gate.{error}") from error
