"""Segmentation, depth and normals of every pixel, by one SegNet with three heads.

The setting of MTAN, Nash-MTL and AuxiNash (https://arxiv.org/abs/2301.13501): NYUv2 with 13
classes and normals, Cityscapes with 7 classes and none. All measures of their tables are there:
mIoU, accuracy of pixels, absolute and relative error of depth, mean and median angle of normals
and the share within 11.25, 22.5 and 30 degrees, and Delta-m, the mean change against networks
that learn one task each, in percent (lower is better). Segmentation is the main task.
Real data: `--data` with MTAN's preprocessed arrays: `train` and `val`, each with image, label,
depth and normal. The tables' network is larger: `--widths 64 128 256 512 512`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError
from examples.arms import MAIN
from examples.report import Row, Verdict, positive
from examples.supervised import study
from examples.supervised.formats import Scenes, read_scenes
from examples.supervised.loop import Network, Problem
from examples.supervised.metrics import delta_m, depth_errors, normal_errors, segmentation
from examples.supervised.networks import SegNet
from examples.supervised.standins import rooms
from examples.supervised.study import LEARNT, Report, by_gate, compare, data_of, run_script

TASKS = ("label", "depth", "normal")
MEASURE = {"label": "mIoU", "depth": "absolute_error", "normal": "angle_mean"}
CHANNELS = {"depth": 1, "normal": 3}


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    gates: study.Gated = ("sum", "cosine_unweighted", "nash", LEARNT)
    """To compare with networks that learn one task each, with options if wanted; all: every
    gate."""
    widths: tuple[int, ...] = (8, 16)
    """Channels of SegNet's stages, multiples of 4."""
    batch: int = 2
    """Images, as in the tables."""
    steps: int = 100
    seeds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or not self.widths:
            raise ValueError("--batch must be at least 1, and --widths at least one number.")
        if any(width < 4 or width % 4 for width in self.widths):
            raise ValueError("--widths must be multiples of 4.")


@dataclass(frozen=True)
class Dense(Problem):
    """Tasks of every pixel, the first of which is the main one."""

    options: Options
    train: Scenes
    val: Scenes
    classes: int
    tasks: Sequence[str]
    learning_rate: float = field(default=1e-3)

    def network(self) -> Network:
        """A SegNet with a convolution and a layer for each task."""
        width = self.options.widths[0]
        heads = [
            torch.nn.Sequential(
                torch.nn.Conv2d(width, width, 3, padding=1),
                torch.nn.ReLU(),
                torch.nn.Conv2d(width, CHANNELS.get(task, self.classes), 1),
            )
            for task in self.tasks
        ]
        return Network(SegNet(3, self.options.widths), heads)

    def draw(self, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Reads some of the arrays."""
        chosen = torch.randint(self.train.count, (self.options.batch,), generator=generator)
        return self._read(self.train, chosen.tolist())

    def _read(self, scenes: Scenes, chosen: Sequence[int]) -> Mapping[str, Tensor]:
        kinds = ("image", *self.tasks)
        return {kind: torch.stack([scenes.read(kind, i) for i in chosen]) for kind in kinds}

    def losses(
        self, network: Network, batch: Mapping[str, Tensor], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropy, absolute error, and 1 - cosine; the means over pixels that are known."""
        features = network.features(batch["image"])
        losses = []
        for number, task in enumerate(self.tasks[: 1 if alone else None]):
            said, right = network.answer(features, number), batch[task]
            known = _known(task, right)
            if task == "label":
                wanted = right[:, 0].long()
                loss = F.cross_entropy(said, wanted, ignore_index=-1, reduction="none")
            elif task == "depth":
                loss = (said - right).abs()[:, 0]
            else:
                loss = 1 - (F.normalize(said, dim=1) * right).sum(1)
            total = torch.where(known, loss, 0.0).sum((1, 2))
            losses.append(total / known.sum((1, 2)).clamp(min=1))
        return losses

    def score(self, network: Network) -> Mapping[str, float]:
        """All measures of the tasks, on the arrays for validation."""
        confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        kept: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        for index in range(self.val.count):
            batch = self._read(self.val, [index])
            features = network.features(batch["image"])
            for number, task in enumerate(self.tasks):
                said, right = network.answer(features, number), batch[task]
                known = _known(task, right)
                if task == "label":
                    cells = right[:, 0].long()[known] * self.classes + said.argmax(1)[known]
                    counts = torch.bincount(cells, minlength=confusion.numel())
                    confusion += counts.view_as(confusion)
                else:
                    kept[task].append((said.movedim(1, -1)[known], right.movedim(1, -1)[known]))
        scores: dict[str, float] = {}
        for task, pairs in kept.items():
            if task == "label":
                scores |= segmentation(confusion)
            else:
                said, right = (torch.cat(each) for each in zip(*pairs, strict=True))
                if task == "depth":
                    scores |= depth_errors(said[:, 0], right[:, 0])
                else:
                    scores |= normal_errors(said, right)
        return scores


def _known(task: str, right: Float[Tensor, "B C H W"]) -> Tensor:
    """Where there is a label (not -1), a depth or a normal (not 0)."""
    return right[:, 0] >= 0 if task == "label" else right.abs().sum(1) > 0


def classes_of(scenes: Scenes) -> int:
    """How many classes the labels have."""
    largest = max(int(scenes.read("label", index).max()) for index in range(scenes.count))
    if largest < 1:
        raise UsageError(f"--data {scenes.folder} has labels of one class alone.")
    return largest + 1


def _same(problem: Dense, seed: int) -> Dense:
    """All seeds have the same data."""
    return problem


def judge(deltas: Mapping[str, study.Seeds]) -> list[Verdict]:
    """What AuxiNash's table says of Delta-m."""
    return [
        positive(
            f"Delta-m of {better} is lower than that of {worse} ({source})",
            deltas[worse] - deltas[better],
            f"{deltas[better].mean():.2f} against {deltas[worse].mean():.2f}; difference",
        )
        for better, worse, source in (
            ("nash", "sum", "Nash-MTL"),
            (LEARNT, "nash", "AuxiNash"),
            (LEARNT, "cosine_unweighted", "AuxiNash"),
        )
        if {better, worse} <= set(deltas)
    ]


def work(options: Options) -> Report:
    """Trains networks of one task each, then all through every gate."""
    with data_of(options.data, rooms, "MTAN's preprocessed NYUv2 or Cityscapes") as folder:
        train, val = (read_scenes(folder, part) for part in ("train", "val"))
        tasks = [task for task in TASKS if task in train.kinds and task in val.kinds]
        classes = max(map(classes_of, (train, val)))
        made = [Dense(options, train, val, classes, [task]) for task in tasks]
        # A single task each; the first of them is main-only learning.
        alone = [
            compare({task: partial(_same, single)}, [], options.seeds, options.steps)
            for task, single in zip(tasks, made, strict=True)
        ]
        together = Dense(options, train, val, classes, tasks)
        found = compare(
            {"": partial(_same, together)}, options.names(), options.seeds, options.steps
        )
    rows: list[Row] = []
    deltas: dict[str, list[float]] = {gate: [] for gate in found.gates[1:]}
    for seed in range(options.seeds):
        parts = [
            each.trained[task, MAIN][seed].scores for task, each in zip(tasks, alone, strict=True)
        ]
        single = {name: value for part in parts for name, value in part.items()}
        for gate in ("one task each", *deltas):
            scores = dict(single) if gate not in deltas else found.trained["", gate][seed].scores
            change = delta_m(scores, single)
            if gate in deltas:
                deltas[gate].append(change)
            measures = {name: f"{value:.4f}" for name, value in scores.items()}
            rows.append({"gate": gate, "seed": seed, **measures, "delta_m": f"{change:.3f}"})
    changes = {gate: np.array(values) for gate, values in deltas.items()}
    panels = {"Delta-m in percent": changes} | {
        MEASURE[task]: {gate: found.score("", gate, MEASURE[task]) for gate in deltas}
        for task in tasks
    }
    figure = by_gate("Means and 95 % bootstrap intervals over seeds", panels)
    return Report(rows, {"dense": figure}, judge(changes))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "dense", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
