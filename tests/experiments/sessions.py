"""Sessions from a line of flags, and what is said where there cannot be one."""

import pytest
import torch

from agents.runtime.distributed import Processes
from configs.cli import parse
from configs.errors import UsageError
from experiments.training.build import build
from experiments.training.hardware import Hardware

CPU = torch.device("cpu")
HARDWARE = Hardware(CPU, "fp32", 1, "")
SMALL = "--env Catch --num-envs 2 --unroll-length 3 --device cpu --precision fp32"
WORLDS = SMALL.replace("Catch", "Gridworld --env.num-worlds 4 --env.height 6 --env.width 7")


def session_of(line, small=SMALL):
    return build(parse(f"{small} {line}".split()), HARDWARE)


def complaint(line, small=SMALL):
    with pytest.raises(UsageError) as refused:
        session_of(line, small)
    said = str(refused.value)
    assert "\n" not in said
    return said


def agent_of(session):
    return session.learner.agent.state_dict()


def alike(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def among(rank, line="", step=0):
    """The session of one of two processes."""
    hardware = Hardware(CPU, "fp32", 1, "", Processes(rank, 2))
    return build(parse(f"{SMALL} {line}".split()), hardware, step)
