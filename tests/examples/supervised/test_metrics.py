import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from examples.supervised.metrics import (
    area_under_curve,
    chunk_f1,
    chunks,
    delta_m,
    depth_errors,
    hypervolume,
    normal_errors,
    segmentation,
)


def test_the_hypervolume_is_the_area_that_points_dominate():
    # 0.5 x 0.8 and 0.2 x 0.3; the third point is dominated.
    points = np.array([[0.5, 0.8], [0.7, 0.3], [0.4, 0.7]])
    assert hypervolume(points, (0.0, 0.0)) == pytest.approx(0.5 * 0.8 + 0.2 * 0.3)
    assert hypervolume(points, (0.6, 0.1)) == pytest.approx(0.1 * 0.2)
    assert hypervolume(points, (0.9, 0.9)) == 0


def test_chunks_begin_with_b_and_with_i_of_another_kind():
    tags = ["B-NP", "I-NP", "B-NP", "O", "I-VP", "I-NP", "I-NP"]
    assert chunks(tags) == {(0, 2, "NP"), (2, 3, "NP"), (4, 5, "VP"), (5, 7, "NP")}


def test_f1_counts_whole_chunks():
    right = [["B-NP", "I-NP", "O"], ["B-VP"]]
    said = [["B-NP", "O", "O"], ["B-VP"]]
    # One of two found, one of two wanted.
    assert chunk_f1(said, right) == 0.5
    assert chunk_f1([["O"]], [["O"]]) == 0


def test_the_area_under_the_curve_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(10, (200,), generator=generator).float()
    right = torch.rand(200, generator=generator) < scores / 12
    wanted = roc_auc_score(right.numpy(), scores.numpy())
    assert area_under_curve(scores, right) == pytest.approx(wanted)
    assert np.isnan(area_under_curve(scores, torch.ones(200, dtype=torch.bool)))


def test_intersection_over_union_skips_classes_that_do_not_occur():
    confusion = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    found = segmentation(confusion)
    assert found["mIoU"] == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert found["pixel_accuracy"] == pytest.approx(7 / 10)


def test_depth_and_angles_are_measured():
    depth = depth_errors(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))
    assert depth == {"absolute_error": 1.0, "relative_error": 0.5}
    right = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    angles = torch.tensor([0.0, 20.0, 90.0]).deg2rad()
    said = 2 * torch.stack([angles.sin(), 0 * angles, angles.cos()], 1)
    found = normal_errors(said, right)
    assert found["angle_mean"] == pytest.approx(110 / 3, abs=0.05)
    assert found["angle_median"] == pytest.approx(20, abs=0.05)
    assert found["within_11.25"] == pytest.approx(1 / 3)
    assert found["within_22.5"] == found["within_30"] == pytest.approx(2 / 3)


def test_delta_m_counts_what_should_fall_the_other_way():
    alone = {"mIoU": 0.5, "absolute_error": 2.0, "within_30": 0.0}
    scores = {"mIoU": 0.4, "absolute_error": 1.0, "within_30": 0.3}
    # 20 % worse, 50 % better, and nothing that could be relative to 0.
    assert delta_m(scores, alone) == pytest.approx((20 - 50) / 2)
