"""AuxiNash's illustration: bargaining power that learns whom to trust.

Shamsian, Navon, Glazer, Kawaguchi, Chechik, Fetaya: "Auxiliary Learning as an Asymmetric
Bargaining Game", https://arxiv.org/abs/2301.13501.  Two parameters w, 1,000 samples and three
targets, `w* x + noise`: the main one is noisy, the helpful one has the same w* and little noise,
the harmful one another w*.  These, batches of 256, Adam with 0.01 and the settings of the learnt
preference are the paper's; normal inputs and where w starts are our choice.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from agents.gates import Gate, make
from agents.gates.methods.nash import AuxiNash
from agents.gates.methods.sum import Sum
from agents.learning.auxinash import LearnedPreference
from examples.arms import MAIN
from examples.figures import Line, draw_lines
from examples.report import Row, Verdict, positive, save
from experiments.results import read_table

TARGETS = ("main", "helpful", "harmful")
WANTED = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -4.0]])
"""w* of each target."""
NOISE = torch.tensor([5.0, 0.25, 0.25])
SAMPLES, BATCH, LEARNING_RATE = 1000, 256, 0.01
REACH = 4.0
"""w starts between it and its negative."""
POINTS = 20
"""Of every curve, after its start."""
FIXED = ("sum", "cosine", "projection", "auxinash")
LEARNT = "auxinash, learnt"


def draw(seed: int) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 3"], Float[Tensor, " 2"]]:
    """Inputs, targets and where w starts."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, 2, generator=generator)
    noise = NOISE * torch.randn(SAMPLES, 3, generator=generator)
    start = REACH * (2 * torch.rand(2, generator=generator) - 1)
    return inputs, inputs @ WANTED.T + noise, start


def follow(
    gate: Gate,
    seeds: Sequence[int],
    steps: int,
    num_losses: int = 3,
    learner: LearnedPreference | None = None,
) -> tuple[Float[np.ndarray, "seeds points"], list[list[float]]]:
    """Trains w for all seeds at once; returns its distance to w*, and what was learnt on the way.

    Args:
        gate: one that has judged nothing yet.
        seeds: of data, starts and batches.
        steps: of Adam.
        num_losses: how many targets count; 1: main-only learning.
        learner: of the gate's preference, which then is for a single seed.
    """
    inputs, wanted, start = (torch.stack(each) for each in zip(*map(draw, seeds), strict=True))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameter = start.requires_grad_()
    optimizer = torch.optim.Adam([parameter], LEARNING_RATE)
    row = torch.arange(len(seeds))[:, None]
    distance, preference = [], []
    for step in range(steps + 1):
        if step * POINTS % steps < POINTS:
            distance.append((parameter.detach() - WANTED[0]).norm(dim=-1))
            if learner is not None:
                preference.append(learner.gate.preference.tolist())
        batch = torch.stack([torch.randint(SAMPLES, (BATCH,), generator=g) for g in generators])
        answers = (inputs[row, batch] * parameter[:, None]).sum(-1, keepdim=True)  # [S, B, 1]
        # Seeds share no parameter: the gradient of the sum holds the gradient of each.
        losses = (answers - wanted[row, batch]).square().mean(1).sum(0)[:num_losses].unbind()
        if learner is not None:
            learner.learn(losses, [parameter])
        rows = [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in losses]
        gradients = torch.stack(rows, dim=1)  # [S, L, 2]
        if learner is not None:
            learner.remember(gradients[0], torch.stack(losses).detach())
        parameter.grad = gate.combine(gradients)
        optimizer.step()
    return torch.stack(distance, dim=1).numpy(), preference


def learn_whom_to_trust(seeds: int, steps: int) -> tuple[list[Row], Figure, list[Verdict]]:
    """Compares main-only learning, gates, and a preference that is learnt."""
    distances = {MAIN: follow(Sum(), range(seeds), steps, num_losses=1)[0]}
    for name in FIXED:
        distances[name] = follow(make(name), range(seeds), steps)[0]
    gates = [AuxiNash([1 / 3] * 3) for _ in range(seeds)]
    learnt = [
        follow(gate, [seed], steps, learner=LearnedPreference(gate))
        for seed, gate in enumerate(gates)
    ]
    distances[LEARNT] = np.concatenate([distance for distance, _ in learnt])
    preference = np.array([history for _, history in learnt])  # [seeds, points, targets]
    times = np.linspace(0, steps, POINTS + 1).round().astype(int).tolist()
    rows: list[Row] = [
        {"gate": gate, "seed": seed, "step": time, "distance": f"{away:.4f}"}
        | dict(zip(TARGETS, trust, strict=True))
        for gate, distance in distances.items()
        for seed, course in enumerate(distance)
        for point, (time, away) in enumerate(zip(times, course, strict=True))
        for trust in [_words(preference[seed, point]) if gate == LEARNT else ("", "", "")]
    ]
    return rows, draw_learning(distances, preference, times), judge(distances, preference)


def draw_learning(
    distances: Mapping[str, Float[np.ndarray, "seeds points"]],
    preference: Float[np.ndarray, "seeds points targets"],
    times: Sequence[int],
) -> Figure:
    """Draws how w came near to w*, and whom the gate came to trust.

    Args:
        distances: by gate.
        preference: that was learnt.
        times: steps at the points.
    """
    trusted = [Line(name, times, preference[..., i]) for i, name in enumerate(TARGETS)]
    return draw_lines(
        "linear: bands are 95 % bootstrap intervals over seeds",
        {
            "distance to w*": [Line(gate, times, each) for gate, each in distances.items()],
            "preference, learnt": trusted,
        },
        x="step",
    )


def redraw(path: Path) -> None:
    """Draws the figure from regression_linear.csv next to it."""
    _, rows = read_table(path.with_suffix(".csv"))
    times = list(dict.fromkeys(int(row["step"]) for row in rows))
    distances = {
        gate: np.array([float(row["distance"]) for row in rows if row["gate"] == gate])
        for gate in dict.fromkeys(row["gate"] for row in rows)
    }
    learnt = [[float(row[name]) for name in TARGETS] for row in rows if row["gate"] == LEARNT]
    figure = draw_learning(
        {gate: each.reshape(-1, len(times)) for gate, each in distances.items()},
        np.array(learnt).reshape(-1, len(times), len(TARGETS)),
        times,
    )
    save(figure, path)


def judge(
    distances: dict[str, Float[np.ndarray, "seeds points"]],
    preference: Float[np.ndarray, "seeds points targets"],
) -> list[Verdict]:
    """What the learnt preference is for."""
    ends = {gate: distance[:, -1] for gate, distance in distances.items()}
    trust = preference[:, -1]
    nearer = [
        positive(
            f"linear: the learnt preference ends nearer to w* than {other}",
            ends[other] - ends[LEARNT],
            f"Distance {ends[LEARNT].mean():.3f} against {ends[other].mean():.3f}; difference",
        )
        for other in ("auxinash", "sum", MAIN)
    ]
    return [
        positive(
            "linear: the harmful auxiliary is trusted less than at the start",
            1 / 3 - trust[:, 2],
            f"Preferences in the end {', '.join(_words(trust.mean(0)))}; fall from 1/3",
        ),
        positive(
            "linear: the helpful auxiliary is trusted more than the harmful one",
            trust[:, 1] - trust[:, 2],
            "Difference in the end",
        ),
        *nearer,
    ]


def _words(preference: Float[np.ndarray, " targets"]) -> tuple[str, ...]:
    return tuple(f"{each:.4f}" for each in preference)
