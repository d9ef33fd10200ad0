import pytest
import torch

from examples.scenes import GRID, SCENES, bowl, landscape, slope, turning


def test_a_slope_is_the_derivative():
    points = torch.tensor([[0.0, 2.0], [3.0, -1.0]])
    values, gradients = slope(bowl)(points)
    assert values.tolist() == [4.0, 10.0]
    assert gradients.tolist() == [[0.0, 4.0], [6.0, -2.0]]
    assert not values.requires_grad


def test_the_circle_is_the_papers():
    # Main (r - 1)^2: at (0, 2) its value is 1, its gradient 2 (r - 1) p / r = (0, 2).
    # Auxiliary 0.1 ((x - 2)^2 + y^2): 0.8 and 0.1 (2 (x - 2), 2 y) = (-0.4, 0.4).
    value, gradient = SCENES["circle"].main(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(value, torch.tensor([1.0]))
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 2.0]]))
    value, gradient = SCENES["circle"].auxiliary(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(value, torch.tensor([0.8]))
    torch.testing.assert_close(gradient, torch.tensor([[-0.4, 0.4]]))


def test_gradients_on_the_line_are_those_of_the_papers_figure():
    scene, points = SCENES["line"], torch.tensor(SCENES["line"].starts)
    # At -20 they are -60 and -40, at 5 they are -10 and 10.
    assert scene.main(points)[1].tolist() == [[-60.0], [-10.0]]
    assert scene.auxiliary(points)[1].tolist() == [[-40.0], [10.0]]


def test_the_turning_field_pushes_away_and_is_no_gradient():
    # At (2, 1), which is (1, 1) from its centre: (-3 - 4, 4 - 3).
    values, field = turning(torch.tensor([[2.0, 1.0]]))
    assert field.tolist() == [[-7.0, 1.0]]
    assert values.isnan().all()
    jacobian = torch.autograd.functional.jacobian(
        lambda p: turning(p[None])[1][0], torch.tensor([2.0, 1.0])
    )
    assert jacobian[0, 1] == -jacobian[1, 0] != 0


@pytest.mark.parametrize("name", SCENES)
def test_the_main_loss_is_at_rest_at_its_goal(name):
    value, gradient = SCENES[name].main(torch.tensor([SCENES[name].goal]))
    assert value.tolist() == [0.0]
    assert gradient.abs().max() == 0


def test_a_landscape_has_y_first():
    scene = SCENES["helpful"]
    ground = landscape(scene)
    # At x = 2.5 and y = 0 the valley is at 0.625; at x = 0 and y = 2.5 at 6.25.
    assert ground.height[GRID // 2, -1] == pytest.approx(0.625)
    assert ground.height[-1, GRID // 2] == pytest.approx(6.25)
    # On the axes both gradients point the same way.
    assert ground.agreement[GRID // 2, -1] == pytest.approx(1.0)


def test_there_is_no_landscape_under_a_line():
    assert landscape(SCENES["line"]) is None
