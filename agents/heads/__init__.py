"""Auxiliary heads.  To add one: one file, one line in `Heads`."""

from dataclasses import dataclass

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets
from agents.heads.distill import DistillConfig


@dataclass(frozen=True)
class Heads:
    """The heads by their command-line names."""

    distill: DistillConfig = DistillConfig()


__all__ = ["AuxiliaryHead", "HeadContext", "HeadLoss", "Heads", "Schedule", "Targets"]
