"""What every registered torso keeps; a new one needs an example here."""

from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from agents.networks.actor_critic import arithmetic
from agents.networks.torsos import (
    ImpalaConfig,
    MlpConfig,
    NatureConfig,
    SmallConfig,
    Torsos,
)

BATCH, F = 3, 5
EXAMPLES = {
    "nature": (NatureConfig(width=F), (2, 36, 44)),
    "impala": (ImpalaConfig(channels=(3, 4), width=F), (2, 8, 12)),
    "small": (SmallConfig(channels=(3, 4), width=F), (2, 5, 14)),
    "mlp": (MlpConfig(widths=(7, F)), (2, 3, 4)),
}
"""Of each torso a small one and a small observation for it, of uneven sides."""


@pytest.fixture(params=list(EXAMPLES))
def torso(request):
    config, shape = EXAMPLES[request.param]
    return config.build(shape)


@pytest.fixture
def pixels(torso, request):
    shape = EXAMPLES[request.node.callspec.params["torso"]][1]
    return torch.randint(256, (BATCH, *shape), dtype=torch.uint8)


def test_every_torso_has_an_example():
    assert set(EXAMPLES) == {torso.name for torso in fields(Torsos)}


def test_the_features_are_as_wide_as_promised(torso, pixels):
    output = torso(pixels)
    assert output.features.shape == (BATCH, F)
    assert torso.num_features == F
    assert output.features.dtype == torch.float32


def test_bytes_count_as_the_floats_from_0_to_1(torso, pixels):
    assert_close(torso(pixels).features, torso(pixels / 255).features)


def test_one_observation_says_nothing_of_another(torso, pixels):
    expected = torso(pixels).features
    assert_close(torso(pixels[1:2]).features, expected[1:2])
    assert not torch.isclose(expected[0], expected[1]).all()


def test_the_features_are_what_the_last_layers_make_of_the_feature_map(torso, pixels):
    output = torso(pixels)
    latent = output.features if torso.spatial_shape is None else output.spatial
    assert torso.spatial_shape is None or latent.shape[1:] == torso.spatial_shape
    assert_close(torso.features_of(latent), output.features)


def test_bf16_is_near_fp32(torso, pixels):
    expected = torso(pixels).features
    with arithmetic("bf16", torch.device("cpu")):
        features = torso(pixels).features.float()
    # 8 bits of mantissa through a few layers.
    assert_close(features, expected, atol=0.05 * expected.detach().abs().max().item(), rtol=0)


def test_every_parameter_is_trained(torso, pixels):
    torso(pixels).features.sum().backward()
    assert all(p.grad is not None for p in torso.parameters())


def test_the_small_torso_keeps_the_pixels_of_a_small_picture_and_halves_a_larger_one():
    sides = {
        side: SmallConfig().build((3, side, side)).spatial_shape[1:] for side in (7, 12, 13, 40)
    }
    assert sides == {7: (7, 7), 12: (12, 12), 13: (7, 7), 40: (10, 10)}
