"""What was chosen must fit together; where it does not, one sentence says what to change."""

from agents.gates import Gate
from agents.losses import Algorithm
from agents.processes import Processes
from configs.errors import UsageError
from configs.train import TrainConfig


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


def check_gate(config: TrainConfig, gate: Gate) -> None:
    """Refuses what a gate cannot do."""
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
