import pytest
import torch

from agents.networks.torsos import NatureConfig


def test_the_network_is_that_of_the_paper():
    # 84 -> (84 - 8) / 4 + 1 = 20 -> (20 - 4) / 2 + 1 = 9 -> (9 - 3) / 1 + 1 = 7;
    # weights and biases: 4 x 8 x 8 x 32 + 32, 32 x 4 x 4 x 64 + 64, 64 x 3 x 3 x 64 + 64 and
    # 7 x 7 x 64 x 512 + 512.
    torso = NatureConfig().build((4, 84, 84))
    assert sum(p.numel() for p in torso.parameters()) == 8224 + 32832 + 36928 + 1606144
    output = torso(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    assert output.spatial.shape == (1, 64, 7, 7)
    assert output.features.shape == (1, 512)


def test_features_and_map_are_rectified():
    torso = NatureConfig(width=5).build((2, 36, 36))
    output = torso(torch.randn(3, 2, 36, 36))
    assert (output.features >= 0).all()
    assert (output.spatial >= 0).all()


def test_vectors_and_small_images_are_refused():
    for shape in ((4,), (2, 35, 36)):
        with pytest.raises(ValueError, match=r"^torso nature needs images"):
            NatureConfig().build(shape)


def test_a_width_below_1_is_refused():
    with pytest.raises(ValueError, match=r"^width must be at least 1, not 0\."):
        NatureConfig(width=0)
