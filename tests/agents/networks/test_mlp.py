from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.networks.torsos import MlpConfig


def test_every_layer_is_followed_by_tanh():
    torso = MlpConfig(widths=(4, 5, 3)).build((2, 2))
    dense = [layer for layer in torso.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in dense] == [4, 5, 3]
    x = torch.randn(5, 2, 2)
    expected = x.flatten(1)
    for layer in dense:
        expected = torch.tanh(expected @ layer.weight.T + layer.bias)
    assert_close(torso(x).features, expected)
    assert torso(x).spatial is None


def test_one_layer_is_enough():
    torso = MlpConfig(widths=(3,)).build((6,))
    assert torso(torch.zeros(2, 6)).features.shape == (2, 3)


@pytest.mark.parametrize("widths", [(), (0,), (64, -1)])
def test_senseless_widths_are_refused(widths):
    with pytest.raises(ValueError, match=r"^widths"):
        MlpConfig(widths=widths)


def test_a_symbol_counts_as_its_one_hot_vector():
    torso = MlpConfig(widths=(4, 3)).build((2, 5), num_symbols=6)
    plain = MlpConfig(widths=(4, 3)).build((2, 5, 6))
    plain.load_state_dict(torso.state_dict())
    symbols = torch.randint(6, (7, 2, 5), dtype=torch.uint8)
    one_hot = torch.zeros(7, 2, 5, 6)
    for batch, row, column in product(range(7), range(2), range(5)):
        one_hot[batch, row, column, int(symbols[batch, row, column])] = 1.0
    assert_close(torso(symbols).features, plain(one_hot).features)
