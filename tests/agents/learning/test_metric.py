import torch

from agents.learning.gating import sign_differs

# D = (4, 1/4): the first column counts half, the second twice.
METRIC = torch.tensor([4.0, 0.25]).rsqrt()


def test_signs_differ_where_the_scale_turns_a_cosine():
    # With (1, 1): 3 - 1 > 0 but 3 / 4 - 4 < 0; 2 - 3 < 0 but 2 / 4 - 12 < 0, too; 0 with both.
    rows = torch.tensor([[1.0, 1.0], [3.0, -1.0], [2.0, -3.0], [0.0, 0.0]])
    assert sign_differs(rows, METRIC).tolist() == [1.0, 0.0, 0.0]


def test_without_a_metric_no_difference_is_measured():
    assert sign_differs(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), None).isnan().tolist() == [True]
