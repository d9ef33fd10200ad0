import torch
from torch import nn
from torch.testing import assert_close

from agents.learning.rotations import Cut


def test_what_is_left_at_the_pieces_goes_through_the_network_as_if_there_were_no_cut():
    below = nn.Linear(4, 5)
    inputs = torch.randn(3, 2, 4)

    def loss(features, squares):
        return features.sin().sum() + 3 * squares.mean()

    features = below(inputs)
    expected = torch.autograd.grad(loss(features, features.square()), list(below.parameters()))
    features = below(inputs)
    cut = Cut((features, features.square()))
    assert torch.equal(cut.pieces[0], features)
    loss(*cut.pieces).backward()
    assert below.weight.grad is None
    cut.backward()
    for mine, theirs in zip(below.parameters(), expected, strict=True):
        assert_close(mine.grad, theirs)


def test_a_piece_that_no_loss_reads_is_left_out():
    below = nn.Linear(4, 5)
    features = below(torch.randn(2, 4))
    cut = Cut((features, features * float("nan")))
    cut.pieces[0].sum().backward()
    cut.backward()
    assert_close(below.bias.grad, torch.full((5,), 2.0))


def test_every_process_fills_a_place_of_its_own():
    source = torch.randn(3, 5, requires_grad=True)
    cut = Cut((source,), rank=1, size=3)
    cut.pieces[0].square().sum().backward()
    gradient = cut.leaves[0].grad
    assert gradient.shape == (3, 3, 5)
    assert_close(gradient[1], 2 * source.detach())
    assert not gradient[[0, 2]].any()
    cut.backward()
    assert_close(source.grad, 2 * source.detach())
