import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.decoders import mosaic
from agents.heads.components.views import at_steps
from agents.heads.reconstruct import ReconstructConfig
from tests.agents.heads.places import B, T, build_place, learn
from tests.agents.heads.settings import evaluate


def blank(head):
    """Makes a decoder draw zeros."""
    with torch.no_grad():
        for parameter in head.decoder.parameters():
            parameter.zero_()
    return head


def test_the_loss_of_a_blank_drawing_is_the_mean_square_of_the_observation():
    place = build_place("board")
    head = blank(ReconstructConfig(fraction=1.0).build(place.context))
    observation = torch.zeros(T + 1, B, 10, 5)
    observation[1, 0, 2, 3] = 2.0
    result = evaluate(head, place.agent, place.play(observation=observation))
    # One of 50 cells is 2: 4 / 50.
    assert_close(result.loss, torch.tensor([[0.0, 0.0], [4 / 50, 0.0], [0.0, 0.0]]))


def test_the_observations_of_the_steps_drawn_are_made_from_their_own_features():
    place = build_place("board")
    head, trajectory = ReconstructConfig(fraction=0.5).build(place.context), place.play(length=8)
    targets = head.prepare(place.agent, trajectory)
    result = head(place.agent, place.agent.unroll(trajectory), trajectory, targets)
    assert result.loss.shape == (4, B)
    for draw in range(4):
        for b in range(B):
            observation = trajectory.observation[targets.step[draw, b], b]
            drawn = head.decoder.layers(place.agent.torso(observation[None]).features)
            expected = (drawn.view(10, 5) - observation).square().mean()
            assert_close(result.loss[draw, b], expected)


def test_some_steps_are_drawn_and_valid_ones_first():
    place = build_place("board")
    head = ReconstructConfig(fraction=0.5).build(place.context)
    trajectory = place.play(length=4, ends=[(0, 0), (2, 0)])
    targets = head.prepare(place.agent, trajectory)
    result = head(place.agent, place.agent.unroll(trajectory), trajectory, targets)
    assert result.loss.shape == (2, B)
    # Steps 1 and 3 of environment 0 only reset.
    assert targets.step[:, 0].tolist() == [0, 2]
    assert result.valid.all()
    assert torch.equal(result.valid, at_steps(trajectory.valid, targets.step))


def test_the_loss_falls_and_variance_is_explained():
    place = build_place("board", widths=(32, 16))
    observation = torch.zeros(9, 8, 10, 5)
    # A ball that falls, in a column per environment.
    for t in range(9):
        for b in range(8):
            observation[t, b, t, b % 5] = 1.0
    trajectory = place.play(8, 8, observation=observation)
    head = ReconstructConfig(fraction=1.0, hidden=64).build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 60, learning_rate=1e-2)
    assert losses[-1] < losses[0] / 5
    assert metrics["explained_variance"] > 0.7


def test_the_loss_falls_and_symbols_are_named():
    place = build_place("window", widths=(32, 16))
    trajectory = place.play(4, 8)
    head = ReconstructConfig(fraction=1.0).build(place.context)
    losses, metrics = learn(head, place.agent, trajectory, 60, learning_rate=1e-2)
    assert losses[-1] < losses[0] / 5
    assert metrics["accuracy"] > 0.95
    assert metrics["chance"] < 0.6


def test_the_loss_of_images_falls():
    place = build_place("image")
    # Even grey, of another shade in every environment: the bias alone cannot draw it.
    observation = torch.zeros(T + 1, B, 4, 84, 84, dtype=torch.uint8)
    observation[:, 1] = 250
    head = ReconstructConfig(fraction=1.0).build(place.context)
    trajectory = place.play(observation=observation)
    losses, _ = learn(head, place.agent, trajectory, 30, learning_rate=1e-3)
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize("kind", ["image", "window", "board", "vector"])
def test_a_picture_shows_observations_above_what_is_made_of_them(kind):
    place = build_place(kind)
    head, trajectory = ReconstructConfig().build(place.context), place.play(length=5)
    picture = head.picture(place.agent, trajectory)
    assert picture.dtype == torch.uint8
    # Eight of ten observations, evenly spaced.
    chosen = torch.linspace(0, 9, 8).long()
    observation = trajectory.observation[:-1].flatten(0, 1)[chosen]
    num_symbols = place.context.spec.num_symbols
    scale = 255 if kind == "image" else 1
    above = mosaic([observation / scale if kind == "image" else observation], num_symbols)
    assert torch.equal(picture[: len(above)], above)
    assert len(picture) > 2 * len(above)
    features = place.agent.torso(observation).features
    restored = head.decoder.restored(head.decoder(features)).detach()
    first = observation / scale if kind == "image" else observation
    assert torch.equal(picture, mosaic([first, restored], num_symbols))


def test_a_picture_of_few_observations_has_all_of_them():
    place = build_place("board")
    picture = (
        ReconstructConfig().build(place.context).picture(place.agent, place.play(length=1, batch=1))
    )
    assert picture.shape == (2 * 80 + 2, 40, 3)


@pytest.mark.parametrize("options", [{"coefficient": -1.0}, {"fraction": 0.0}, {"hidden": 0}])
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must"):
        ReconstructConfig(**options)
