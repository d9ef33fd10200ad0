"""What a program tells of itself, and how its speed is taken."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Play = Callable[[], int]
"""Plays for a moment and returns how many agent steps that were."""


@dataclass(frozen=True)
class Form:
    """One way to step the worlds of a program."""

    view: str
    """Shape and type of one observation."""
    play: Play


@dataclass(frozen=True)
class Program:
    """What is measured in one process."""

    versions: str
    """Of the packages that matter."""
    forms: Mapping[str, Form]


@dataclass(frozen=True)
class Burst:
    """What was played at one go."""

    steps: int
    """Agent steps."""
    seconds: float
    """Processor time of the process, all its threads; waiting for others' work is no part of it."""


def burst(play: Play, seconds: float) -> Burst:
    """Plays until so much processor time is used."""
    steps, start = 0, time.process_time()
    while (used := time.process_time() - start) < seconds:
        steps += play()
    return Burst(steps, used)
