"""Whether a run acts and learns by CUDA graphs: `--cuda-graphs`.

A part of a run says itself whether it may be captured (`capturable` of heads and algorithms); a
gate may, unless it draws random numbers, cuts the data, or acts on the network.
"""

from collections.abc import Sequence

import torch

from agents.heads import AuxiliaryHead
from agents.learning.learner import Learner
from agents.learning.views import GateExtension
from agents.rollout.collector import Collector
from agents.rollout.pipeline import Pipeline
from agents.runtime.graphs import CudaCapture
from configs.errors import UsageError
from configs.training import TrainConfig
from experiments.training.hardware import Hardware


def obstacles(learner: Learner) -> Sequence[str]:
    """The parts of an update that cannot be captured: `algo`, `gate`, or the name of a head."""
    gate = learner.gating.gate
    draws = gate.sample_rows > 0 or gate.slices > 0
    # What acts on the network keeps memory outside of the gate.
    acts = type(learner.gating.extension) is not GateExtension
    fit = {"algo": learner.algorithm.capturable, "gate": not (draws or acts)}
    for name, head in learner.heads.items():
        assert isinstance(head, AuxiliaryHead)
        fit[name] = head.capturable
    return [name for name, capturable in fit.items() if not capturable]


def reason_against(config: TrainConfig, hardware: Hardware, learner: Learner) -> str:
    """Names what keeps a run from being captured; empty if nothing does.

    Args:
        config: of the run.
        hardware: what it computes on.
        learner: built from the config.
    """
    if hardware.processes.size > 1:
        return "a run of several processes"
    if config.run.compile:
        return "--compile"
    chosen = {"algo": f"--algo {config.choice.algo}", "gate": f"--gate {config.choice.gate}"}
    unfit = obstacles(learner)
    return chosen.get(unfit[0], f"--aux {unfit[0]}") if unfit else ""


def capture(
    config: TrainConfig,
    hardware: Hardware,
    learner: Learner,
    collector: Collector | Pipeline,
    acting: torch.Generator,
    *,
    resumes: bool = False,
) -> str:
    """Lets a run act and learn by CUDA graphs, if it asks for them and they are possible.

    Args:
        config: of the run.
        hardware: what it computes on.
        learner: built from the config.
        collector: of the same run.
        acting: draws the actions.
        resumes: whether the run goes on, perhaps on another device than it asked for.

    Returns:
        A sentence for the user; empty where there is nothing to say.

    Raises:
        UsageError: the run asks for graphs, and they are not possible.
    """
    asked, device = config.run.cuda_graphs, hardware.device
    if asked == "off" or (device.type != "cuda" and (asked == "auto" or resumes)):
        return ""
    if device.type != "cuda":
        raise UsageError(f"--cuda-graphs on needs a GPU, and this run is on {device}: drop it.")
    reason = reason_against(config, hardware, learner)
    if reason and asked == "on":
        raise UsageError(f"--cuda-graphs on cannot capture {reason}: drop one of the two.")
    if reason:
        return f"No CUDA graphs, which cannot capture {reason}."
    lenient = asked == "auto"
    learner.capture(CudaCapture(device, lenient=lenient))
    collector.capture(CudaCapture(device, [acting], lenient=lenient))
    return "Acting and updates run as CUDA graphs."
