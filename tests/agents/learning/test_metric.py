import torch
from torch.testing import assert_close

from agents.learning.gating import Metric

# D = (4, 1/4): the first column is worth half of itself, the second twice.
METRIC = Metric.of_adam(torch.tensor([4.0, 0.25]))


def test_inner_products_are_those_with_the_step_that_is_taken():
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert_close(METRIC.enter(rows), torch.tensor([[0.5, 4.0], [1.5, -2.0]]))
    # <g, D^-1 h> = 1 3 / 4 - 2 1 4
    one, other = METRIC.enter(rows)
    assert_close(one @ other, torch.tensor(0.75 - 8.0))


def test_a_direction_comes_back_as_the_gradient_that_it_was():
    direction = torch.tensor([1.0, 2.0])
    assert_close(METRIC.leave(METRIC.enter(direction)), direction)


def test_signs_differ_where_the_scale_turns_a_cosine():
    # With (1, 1): 3 - 1 > 0 but 3 / 4 - 4 < 0; 2 - 3 < 0 but 2 / 4 - 12 < 0, too; 0 with both.
    rows = torch.tensor([[1.0, 1.0], [3.0, -1.0], [2.0, -3.0], [0.0, 0.0]])
    assert METRIC.sign_differs(rows).tolist() == [1.0, 0.0, 0.0]


def test_the_plain_metric_changes_nothing_and_measures_no_difference():
    rows, plain = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), Metric.of_adam(None)
    assert plain.enter(rows) is rows
    assert plain.leave(rows[0]).data_ptr() == rows.data_ptr()
    assert plain.sign_differs(rows).isnan().tolist() == [True]
