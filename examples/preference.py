"""AuxiNash's illustration: bargaining power that learns whom to trust.

Shamsian, Navon, Glazer, Kawaguchi, Chechik, Fetaya: "Auxiliary Learning as an Asymmetric
Bargaining Game", https://arxiv.org/abs/2301.13501.  Two parameters w, 1,000 samples and three
targets, `w* x + noise`: the main one is noisy, the helpful one has the same w* and little noise,
the harmful one another w*.  These, batches of 256, Adam with 0.01 and all settings of the learnt
preference are the paper's; inputs are normal and w starts at 0, which is our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from agents.gates import gated_backward, make
from agents.gates.auxinash import AuxiNash
from agents.gates.sum import Sum
from agents.hypergradient import LearnedPreference
from examples.arms import MAIN
from examples.figures import Line, draw_lines
from examples.report import Row, Verdict, positive

WANTED = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -4.0]])
"""w* of the main, the helpful and the harmful target."""
NOISE = torch.tensor([5.0, 0.25, 0.25])
TARGETS = ("main", "helpful", "harmful")
SAMPLES, BATCH, LEARNING_RATE = 1000, 256, 0.01
POINTS = 40
"""Of every curve, after its start."""
FIXED = ("sum", "cosine", "projection", "auxinash")
LEARNT = "auxinash, learnt"


def draw(seed: int) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 3"]]:
    """Inputs and targets of a seed."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, 2, generator=generator)
    noise = NOISE * torch.randn(SAMPLES, 3, generator=generator)
    return inputs, inputs @ WANTED.T + noise


@dataclass(frozen=True)
class Course:
    """What became of one run, at the start and at `POINTS` later times."""

    distance: list[float]
    """Of w to w*."""
    preference: list[list[float]]
    """Of each target, where it is learnt."""


def follow(gate: str, seed: int, steps: int) -> Course:
    """Trains two parameters on one seed's data.

    Args:
        gate: by its name; or main-only learning, or `LEARNT`.
        seed: of data and batches.
        steps: of Adam.
    """
    inputs, targets = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], LEARNING_RATE)
    judge, learner = Sum(), None
    if gate == LEARNT:
        judge = AuxiNash([1 / 3] * 3)
        learner = LearnedPreference(judge)
    elif gate != MAIN:
        judge = make(gate)
    num_losses = 1 if gate == MAIN else len(TARGETS)
    course = Course([], [])
    for step in range(steps + 1):
        if step * POINTS % steps < POINTS:
            course.distance.append(float((parameter - WANTED[0]).norm().detach()))
            if learner is not None:
                course.preference.append(judge.preference.tolist())
        chosen = torch.randint(SAMPLES, (BATCH,), generator=generator)
        answers = inputs[chosen] @ parameter
        losses = [(answers - targets[chosen, task]).square().mean() for task in range(num_losses)]
        optimizer.zero_grad()
        if learner is None:
            gated_backward(losses, judge, [parameter])
        else:
            learner.learn(losses, [parameter])
            gated_backward(losses, judge, [parameter], reduce=learner.remember)
        optimizer.step()
    return course
