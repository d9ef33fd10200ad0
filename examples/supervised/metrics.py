"""Measures of the papers' tables: fronts, chunks, ranking, segmentation, depth, normals."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WITHIN = (11.25, 22.5, 30.0)
"""Degrees, of normals that count as right."""
HIGHER_IS_BETTER = {
    "mIoU": True,
    "pixel_accuracy": True,
    "absolute_error": False,
    "relative_error": False,
    "angle_mean": False,
    "angle_median": False,
    **{f"within_{degrees:g}": True for degrees in WITHIN},
}


def hypervolume(points: Float[np.ndarray, "n 2"], reference: tuple[float, float]) -> float:
    """The area that points dominate, where more is better in both directions.

    Args:
        points: of a front, and others.
        reference: where the area begins.
    """
    area, highest = 0.0, reference[1]
    for x, y in sorted(points.tolist(), reverse=True):
        if x > reference[0] and y > highest:
            area += (x - reference[0]) * (y - highest)
            highest = y
    return area


def chunks(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Chunks of a sentence tagged in IOB2 (or IOB1), as begin, end and kind.

    The rules of CoNLL's `conlleval`: B begins a chunk; so does I after O or after another kind.
    """
    found = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.add((start, place, kind))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = place, name
    return found


def chunk_f1(said: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> float:
    """F1 of whole chunks, over all sentences together."""
    pairs = [(chunks(first), chunks(second)) for first, second in zip(said, right, strict=True)]
    both = sum(len(first & second) for first, second in pairs)
    all_chunks = sum(len(first) + len(second) for first, second in pairs)
    return 2 * both / all_chunks if all_chunks else 0.0


def area_under_curve(scores: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> float:
    """Area under the ROC curve: how often a positive sample is above a negative one."""
    ordered, place = scores.double().unique(return_inverse=True)
    count = torch.bincount(place, minlength=len(ordered)).double()
    rank = count.cumsum(0) - (count - 1) / 2  # Ties share their mean rank.
    positives = int(right.sum())
    negatives = len(right) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    total = float(rank[place][right].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def segmentation(confusion: Int[Tensor, "classes classes"]) -> dict[str, float]:
    """Mean intersection over union, of the classes that occur, and accuracy of pixels.

    Args:
        confusion: counts of pixels; the right class first.
    """
    counts = confusion.double()
    inside = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - inside
    overlap = (inside / union)[union > 0].mean()
    return {"mIoU": float(overlap), "pixel_accuracy": float(inside.sum() / counts.sum())}


def depth_errors(said: Float[Tensor, " n"], right: Float[Tensor, " n"]) -> dict[str, float]:
    """Absolute and relative error, the means over pixels whose depth is known."""
    error = (said - right).abs()
    return {"absolute_error": float(error.mean()), "relative_error": float((error / right).mean())}


def normal_errors(said: Float[Tensor, "n 3"], right: Float[Tensor, "n 3"]) -> dict[str, float]:
    """Mean and median angle in degrees, and the share within the tables' three bounds."""
    unit = (torch.nn.functional.normalize(each, dim=1) for each in (said, right))
    cosine = torch.einsum("nd,nd->n", *unit).clamp(-1, 1)
    angle = cosine.acos().rad2deg()
    shares = {f"within_{bound:g}": float((angle < bound).float().mean()) for bound in WITHIN}
    return {"angle_mean": float(angle.mean()), "angle_median": float(angle.median()), **shares}


def delta_m(scores: Mapping[str, float], alone: Mapping[str, float]) -> float:
    """Mean relative change against learning each task alone, in percent; lower is better.

    A measure that is 0 alone, which nothing can be relative to, does not count.

    Args:
        scores: measures of a network.
        alone: the same measures of networks that learnt one task each.
    """
    changes = [
        (-1 if HIGHER_IS_BETTER[name] else 1) * (scores[name] - alone[name]) / alone[name]
        for name in scores
        if name in HIGHER_IS_BETTER and alone[name] != 0
    ]
    return 100 * float(np.mean(changes))
