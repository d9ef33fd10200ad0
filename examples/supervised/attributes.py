"""Attributes of faces from few labels: one that matters, and nine that may help.

Tran-Thien, "Censoring the auxiliary loss gradient", experiment 1
(https://github.com/vivien000/auxiliary-learning2): is a face attractive? His auxiliary finds five
landmarks (`--auxiliary landmarks`); faces of 40 x 40 grey pixels, 10,000 each for training,
validation and tests, four convolutions of 16 to 64 channels, Adam with 1e-3, lambdas from 300 to
30,000, ten runs. Learning ends after `--steps` here, not by early stopping.
Real data: `--data` with CelebA's list_attr_celeba.txt, list_landmarks_align_celeba.txt (for
landmarks), list_eval_partition.txt and the folder img_align_celeba.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError, nearest_first
from examples.supervised import study
from examples.supervised.formats import broken, read_image, read_list
from examples.supervised.loop import Network, Problem
from examples.supervised.metrics import area_under_curve
from examples.supervised.networks import convolutions
from examples.supervised.standins import faces
from examples.supervised.study import Report, compare, data_of, judge_lambdas, run_script

AT_ONCE = 500
"""Faces that are tested together."""


@dataclass(frozen=True)
class Options(study.Lambdas):
    """What is learnt, how often, and where the results go."""

    attribute: str = "Attractive"
    """That matters."""
    auxiliary: Literal["attributes", "landmarks"] = "attributes"
    """What the auxiliary task finds: nine attributes more, or where eyes, nose and mouth are."""
    helpers: tuple[str, ...] = ()
    """The attributes of the auxiliary task; empty: the first nine but the one that matters."""
    labels: int = 0
    """Faces for training; 0: the paper's 10,000, and 200 of the stand-in."""
    side: int = 0
    """Height and width of the faces; 0: the paper's 40, and 24 for the stand-in."""
    channels: tuple[int, ...] = (8, 16, 16)
    """Of the convolutions; the paper's: 16 48 64 64."""
    features: int = 32
    """That the heads read; the paper's: 100."""
    steps: int = 120
    seeds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min((self.features, *self.channels)) < 1 or not self.channels:
            raise ValueError("--channels and --features must be at least 1.")
        if min(self.labels, self.side) < 0:
            raise ValueError("--labels and --side must be at least 0.")
        if self.helpers and self.auxiliary == "landmarks":
            raise ValueError("--helpers has no effect on landmarks: drop it.")
        if self.attribute in self.helpers:
            raise ValueError("--helpers must not name the attribute that matters.")


@dataclass(frozen=True)
class Part:
    """Faces, the attribute that matters, and what the auxiliary task finds."""

    pixels: Float[Tensor, "n 1 H W"]
    wanted: Float[Tensor, " n"]
    auxiliary: Float[Tensor, "n K"]


@dataclass(frozen=True)
class Attributes(Problem):
    """Both tasks look at the same faces."""

    options: Options
    train: Part
    validation: Part
    test: Part
    coefficient: float
    batch: int = 32

    @property
    def width(self) -> int:
        """Of the features."""
        return self.options.features

    def network(self) -> Network:
        """Convolutions with two heads."""
        options, side = self.options, self.train.pixels.shape[-1]
        trunk = convolutions(1, side, options.channels, options.features)
        answers = (1, self.train.auxiliary.shape[1])
        return Network(trunk, [torch.nn.Linear(options.features, count) for count in answers])

    def draw(self, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Some of the faces."""
        return torch.randint(len(self.train.wanted), (self.batch,), generator=generator)

    def losses(
        self, network: Network, batch: Int[Tensor, " B"], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies of attributes; squared errors of landmarks."""
        features = network.features(self.train.pixels[batch])
        said = network.answer(features, 0).squeeze(-1)
        losses = [
            F.binary_cross_entropy_with_logits(said, self.train.wanted[batch], reduction="none")
        ]
        if alone:
            return losses
        said, wanted = network.answer(features, 1), self.train.auxiliary[batch]
        if self.options.auxiliary == "landmarks":
            loss = (said - wanted).square().mean(1)
        else:
            loss = F.binary_cross_entropy_with_logits(said, wanted, reduction="none").mean(1)
        return [*losses, self.coefficient * loss]

    def score(self, network: Network) -> Mapping[str, float]:
        """Area under the ROC curve."""
        return {
            name: self._area(network, part)
            for name, part in (("validation", self.validation), ("test", self.test))
        }

    def _area(self, network: Network, part: Part) -> float:
        said = [network.answer(network.features(x), 0) for x in part.pixels.split(AT_ONCE)]
        return area_under_curve(torch.cat(said).squeeze(-1), part.wanted > 0)


def read(options: Options, folder: Path) -> list[Part]:
    """Reads the faces of the three parts.

    Raises:
        UsageError: a file is not there or not whole, or an attribute is not in the list.
    """
    table = read_list(folder / "list_attr_celeba.txt")
    others = [name for name in table.columns if name != options.attribute]
    helpers = list(options.helpers or others[:9])
    for name in (options.attribute, *helpers):
        if name not in table.columns:
            likely = nearest_first(name, table.columns)
            raise UsageError(f"--data {folder} has no attribute {name}, but {likely}.")
    shown = (table.values > 0).float()
    wanted = shown[:, table.columns.index(options.attribute)]
    auxiliary = shown[:, [table.columns.index(name) for name in helpers]]
    if options.auxiliary == "landmarks":
        places = read_list(folder / "list_landmarks_align_celeba.txt").values
        if len(places) != len(wanted):
            raise UsageError(f"--data {folder} has landmarks and attributes of different images.")
        auxiliary = (places - places.mean(0)) / places.std()
    path = folder / "list_eval_partition.txt"
    with broken(path, "a whole list of CelebA"):
        words = path.read_text("utf-8").split()
        part_of = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    parts = [part_of.get(name, -1) for name in table.files]
    side = options.side or (40 if options.data else 24)
    count = options.labels or (10_000 if options.data else 200)
    found = []
    for number in range(3):
        # As in the paper, the two other parts are no larger than 10,000.
        chosen = [place for place, part in enumerate(parts) if part == number]
        chosen = chosen[: count if number == 0 else 10_000]
        if not chosen:
            raise UsageError(f"--data: {path} has no images of part {number}: get it again.")
        images = [
            read_image(folder / "img_align_celeba" / table.files[place], side, "L")
            for place in chosen
        ]
        pixels = torch.stack(images).float() / 255
        found.append(Part(pixels, wanted[chosen], auxiliary[chosen]))
    return found


def work(options: Options) -> Report:
    """Trains with every lambda, and says what came out."""
    with data_of(options.data, faces, "CelebA's lists and images") as folder:
        learnt, validation, tests = read(options, folder)
    if learnt.pixels.shape[-1] < 2 ** len(options.channels):
        raise UsageError("--side is too small for so many --channels: give a larger one.")

    def of(factor: float, seed: int) -> Attributes:
        return Attributes(options, learnt, validation, tests, factor)

    problems = {f"{factor:g}": partial(of, factor) for factor in options.lambdas}
    found = compare(problems, options.names(options.features), options.seeds, options.steps)
    figure = study.draw_lambdas(found, "area under the ROC curve")
    return Report(found.rows(), {"attributes": figure}, judge_lambdas(found, "attributes: AUC"))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "attributes", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
