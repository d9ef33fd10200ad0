import pytest
import torch
from torch.testing import assert_close

from agents.networks.torsos import ImpalaConfig, Residual


def test_the_network_is_that_of_the_paper():
    # Every stage halves the image, rounding up: 84 -> 42 -> 21 -> 11.
    # A stage from c to d channels: (9 c + 1) d, and 4 (9 d + 1) d in its two residual blocks.
    # 592 + 9280, 4640 + 36992, 9248 + 36992; dense: 32 x 11 x 11 x 256 + 256.
    torso = ImpalaConfig().build((4, 84, 84))
    assert sum(p.numel() for p in torso.parameters()) == 9872 + 41632 + 46240 + 991488
    output = torso(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    assert output.spatial.shape == (1, 32, 11, 11)
    assert output.features.shape == (1, 256)


def test_the_number_and_width_of_the_stages_can_be_chosen():
    torso = ImpalaConfig(channels=(3, 4), width=5).build((2, 8, 12))
    output = torso(torch.rand(3, 2, 8, 12))
    assert output.spatial.shape == (3, 4, 2, 3)
    assert (output.spatial >= 0).all()
    assert (output.features >= 0).all()


def test_a_block_whose_last_convolution_is_zero_changes_nothing():
    block = Residual(3)
    x = torch.randn(2, 3, 4, 4)
    assert not torch.isclose(block(x), x).all()
    torch.nn.init.zeros_(block.second.weight)
    assert_close(block(x), x)


def test_vectors_and_small_images_are_refused():
    # Two stages halve twice: 4 x 4 at least.
    for shape in ((4,), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"^torso impala needs images"):
            ImpalaConfig(channels=(3, 4)).build(shape)


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (16, 0)}, {"width": 0}])
def test_a_senseless_option_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"^{name}"):
        ImpalaConfig(**options)
