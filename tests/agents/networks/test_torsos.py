import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from agents.networks.torsos import InputConv2d, check_image, orthogonal


@pytest.fixture
def first_layer():
    return InputConv2d(2, 3, 4, stride=2, padding=1)


@pytest.fixture
def pixels():
    return torch.randint(256, (3, 2, 9, 9), dtype=torch.uint8)


def plain(layer, image):
    return F.conv2d(image, layer.weight, layer.bias, layer.stride, layer.padding)


def test_bytes_are_scaled_as_if_divided_by_255_before_the_convolution(first_layer, pixels):
    assert_close(first_layer(pixels), plain(first_layer, pixels / 255))


def test_bytes_give_the_weights_the_gradient_of_the_scaled_image(first_layer, pixels):
    first_layer(pixels).square().sum().backward()
    folded = [p.grad.clone() for p in first_layer.parameters()]
    first_layer.zero_grad()
    plain(first_layer, pixels / 255).square().sum().backward()
    for mine, theirs in zip(folded, first_layer.parameters(), strict=True):
        assert_close(mine, theirs.grad)


def test_floats_are_taken_as_they_are(first_layer, pixels):
    image = pixels.float()
    assert_close(first_layer(image), plain(first_layer, image))


def test_under_autocast_bytes_stay_exact_and_the_result_is_near(first_layer, pixels):
    expected = plain(first_layer, pixels / 255)
    with torch.autocast("cpu", torch.bfloat16):
        result = first_layer(pixels)
    assert result.dtype == torch.bfloat16
    # 8 bits of mantissa: 0.4 % of sums of about 1.
    assert_close(result.float(), expected, atol=0.02, rtol=0.02)


def test_orthogonal_layers_have_rows_of_the_gains_length_at_right_angles_and_no_bias():
    layer = orthogonal(nn.Linear(7, 4), gain=3.0)
    assert_close(layer.weight @ layer.weight.T, 9 * torch.eye(4))
    assert not layer.bias.any()


@pytest.mark.parametrize("shape", [(4,), (10, 5), (2, 3, 40, 40)])
def test_what_is_no_image_is_sent_to_the_mlp(shape):
    with pytest.raises(ValueError, match=r"^torso nature needs images \(C, H, W\), .* mlp\.$"):
        check_image("nature", shape, smallest=36)


def test_symbols_are_no_pixels_whatever_their_shape():
    with pytest.raises(ValueError, match=r"^torso nature needs images, .* 7 symbols: .* mlp\.$"):
        check_image("nature", (2, 40, 40), smallest=36, num_symbols=7)


def test_too_small_an_image_is_refused_and_the_smallest_is_not():
    assert check_image("nature", (2, 36, 40), smallest=36) == 2
    for shape in ((2, 35, 40), (2, 40, 35)):
        with pytest.raises(ValueError, match="36 x 36 pixels or more"):
            check_image("nature", shape, smallest=36)
