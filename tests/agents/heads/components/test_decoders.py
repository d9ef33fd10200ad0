from math import log

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.heads.components.decoders import (
    AmountDecoder,
    Deconvolution,
    SymbolDecoder,
    amounts,
    decoder_for,
)
from envs.base import EnvSpec

F = 5


def specification(shape, dtype=torch.uint8, num_symbols=0):
    return EnvSpec("Made", 2, shape, dtype, 4, "Made", num_symbols=num_symbols)


@pytest.mark.parametrize("shape", [(4, 84, 84), (3, 64, 64), (1, 36, 41)])
def test_a_deconvolution_draws_images_of_the_size_asked_for(shape):
    drawn = Deconvolution(F, shape)(torch.randn(2, F))
    assert drawn.shape == (2, *shape)
    # A pixel that no layer reached would have the last one's bias, which is 0.
    assert (drawn != 0).float().mean() > 0.99


@pytest.mark.parametrize(
    ("spec", "kind", "drawn"),
    [
        (specification((1, 36, 36)), AmountDecoder, (1, 36, 36)),
        (specification((10, 5), torch.float32), AmountDecoder, (10, 5)),
        (specification((3, 7, 7)), AmountDecoder, (3, 7, 7)),
        (specification((5, 5), num_symbols=6), SymbolDecoder, (6, 5, 5)),
    ],
)
def test_every_kind_of_observation_has_its_decoder(spec, kind, drawn):
    decoder = decoder_for(spec, F, hidden=8)
    assert type(decoder) is kind
    result = decoder(torch.randn(3, F))
    assert result.shape == (3, *drawn)
    assert decoder.restored(result).shape == (3, *spec.observation_shape)


def test_bytes_are_amounts_from_0_to_1():
    assert amounts(torch.tensor([[0, 51, 255]], dtype=torch.uint8)).tolist() == [
        pytest.approx([0.0, 0.2, 1.0])
    ]
    assert amounts(torch.tensor([[-2.0, 300.0]])).tolist() == [[-2.0, 300.0]]


def test_the_error_of_amounts_is_the_mean_of_squares():
    decoder = AmountDecoder(nn.Identity(), (2,))
    observation = torch.tensor([[0, 255], [51, 0]], dtype=torch.uint8)
    drawn = decoder(torch.tensor([[1.0, 1.0], [0.2, 0.5]]))
    # ((1 - 0)^2 + 0) / 2 and (0 + 0.5^2) / 2.
    assert_close(decoder.error(drawn, observation), torch.tensor([0.5, 0.125]))


def test_amounts_are_measured_by_the_variance_explained():
    decoder = AmountDecoder(nn.Identity(), (2,))
    observation = torch.tensor([[1.0, 0.0], [3.0, 0.0], [8.0, 8.0]])
    valid = torch.tensor([True, True, False])
    # Targets 1, 3 vary by 1; residuals 0, 1 by 1/4.
    measures = decoder.measures(
        torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), observation, valid
    )
    assert_close(measures, {"explained_variance": torch.tensor(0.75)})


def test_the_error_of_symbols_is_the_mean_cross_entropy_of_the_cells():
    decoder = SymbolDecoder(nn.Identity(), (2,), num_symbols=3)
    # Cell 0: (1/2, 1/4, 1/4), cell 1: uniform; drawn [K, cells].
    drawn = decoder(torch.tensor([[log(2.0), 0.0, 0.0, 0.0, 0.0, 0.0]]))
    for symbols, expected in [((0, 2), (log(2) + log(3)) / 2), ((1, 2), (log(4) + log(3)) / 2)]:
        observation = torch.tensor([symbols], dtype=torch.uint8)
        assert_close(decoder.error(drawn, observation), torch.tensor([expected]))


def test_symbols_are_measured_by_accuracy_against_the_commonest_symbol_of_each_cell():
    decoder = SymbolDecoder(nn.Identity(), (2,), num_symbols=3)
    observation = torch.tensor([[0, 1], [0, 2], [0, 1], [2, 2]], dtype=torch.uint8)
    valid = torch.tensor([True, True, True, False])
    guess = torch.tensor([[0, 1], [1, 1], [0, 0], [2, 2]])
    drawn = nn.functional.one_hot(guess, 3).movedim(-1, 1).float()
    assert decoder.restored(drawn).tolist() == guess.tolist()
    # Right: 2 of 2, 0 of 2, 1 of 2; commonest: symbol 0 in 3 of 3, symbol 1 in 2 of 3.
    expected = {"accuracy": torch.tensor(0.5), "chance": torch.tensor((1 + 2 / 3) / 2)}
    assert_close(decoder.measures(drawn, observation, valid), expected)
