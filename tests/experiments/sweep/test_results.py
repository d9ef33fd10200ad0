from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.sweep.arms import MAIN, SweepArm, Teaching, arms
from experiments.sweep.folder import Chunk, Results

K = 9
"""Arms of the tiny sweep."""


def build_chunk(rows):
    """All numbers of a row are the row's number; returns also count points (100) and arms (10)."""
    row = torch.tensor(rows).double()
    points = 100 * torch.arange(3.0).double()[:, None, None] + 10 * torch.arange(K)[:, None]
    return Chunk(
        expected_return=points + row,
        cosine=row.float().expand(2, K, -1),
        weight=row.float().expand(2, K, -1),
        teacher=row + 10 * torch.arange(4)[:, None],
        optimum=row,
        random=row,
        cells=row.long(),
        aliased=row.long(),
    )


@pytest.fixture
def results(tiny):
    return Results.join(tiny, [build_chunk([0, 1, 2, 3]), build_chunk([4, 5])])


def test_seeds_are_averaged_within_each_world(results):
    # Rows 0 and 1 are the seeds of the first world, and so on.
    np.testing.assert_allclose(results.optimum, [0.5, 2.5, 4.5])
    np.testing.assert_allclose(results.final()[0], [200.5, 202.5, 204.5])
    assert results.num_worlds == 3


def test_curves_are_found_by_gate_and_teacher(results, tiny):
    number = arms(tiny).index(SweepArm("cosine", Teaching("same", 0.0)))
    wanted = 10 * number + results.optimum
    np.testing.assert_allclose(results.curves("cosine", Teaching("same", 0.0))[0], wanted)
    np.testing.assert_allclose(results.curves(MAIN, None)[0], results.optimum)
    # cross 0, cross 1, same 0: the third.
    np.testing.assert_allclose(results.taught_by(Teaching("same", 0.0)), 20 + results.optimum)


def test_steps_are_those_that_each_student_has_played(results, tiny):
    # 2 environments x 3 steps an update; points after 0, 1 (a quarter) and 5 updates.
    np.testing.assert_allclose(results.steps, [0, 6, 30])
    exact = replace(results, config=replace(tiny, gradients="exact"))
    np.testing.assert_allclose(exact.steps, [0, 1, 5])


def test_the_area_is_the_mean_of_the_curve_over_steps(results):
    # 0, 100, 200 at 0, 6, 30: (50 * 6 + 150 * 24) / 30 = 130.
    np.testing.assert_allclose(results.area()[0], 130 + results.optimum)
