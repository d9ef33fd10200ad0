import torch
from torch.testing import assert_close

from agents.logs.tensorboard import heatmap
from experiments.training.session import Gallery
from tests.agents.updating import Head, Opponent


class Painter(Head):
    """Draws the trajectory's size and the agent's opinion of it, in one pixel."""

    def picture(self, agent, trajectory):
        assert not torch.is_grad_enabled()
        length, batch = trajectory.action.shape
        return torch.tensor([[[length, batch, 7]]], dtype=torch.uint8)


class Silent(Head):
    """Could draw, but has nothing to show."""

    def picture(self, agent, trajectory):
        return None


def test_the_cosines_of_several_losses_are_drawn_once(build_learner, collected):
    learner, gallery = build_learner({"one": Head(), "opponent": Opponent()}), Gallery()
    metrics = [learner.update(trajectory) for trajectory in collected[:2]]
    (name,) = (pictures := gallery.draw(learner))
    assert name == "cosines"
    # As in the log, averaged over both updates: the opponent is the main loss's opposite.
    expected = torch.eye(3)
    for index, head in enumerate(("one", "opponent"), start=1):
        mean = sum(m[f"{head}/cosine"] for m in metrics) / 2
        expected[0, index] = expected[index, 0] = mean
    assert_close(expected[0, 2], torch.tensor(-1.0))
    expected[1, 2] = expected[2, 1] = -expected[0, 1]
    drawn = heatmap(["main", "one", "opponent"], expected.numpy()).astype(int)
    # Rounding may move a colour by one.
    assert abs(drawn - pictures[name]).max() <= 1
    assert gallery.draw(learner) == {}


def test_one_auxiliary_has_a_curve_and_no_matrix(build_learner, collected):
    learner, gallery = build_learner({"one": Head()}), Gallery()
    learner.update(collected[0])
    assert gallery.draw(learner) == {}


def test_a_sum_that_is_not_judged_has_no_cosines(build_learner, collected):
    learner, gallery = build_learner({"one": Head(), "two": Head()}, gate="sum"), Gallery()
    learner.update(collected[0])
    assert gallery.draw(learner) == {}


def test_a_head_draws_the_latest_trajectory(build_learner, collected):
    heads = {"painter": Painter(), "silent": Silent()}
    learner, gallery = build_learner(heads, gate="sum"), Gallery()
    assert gallery.draw(learner) == {}  # nothing was played yet
    gallery.keep(learner, collected[0])
    (name,) = (pictures := gallery.draw(learner))
    assert name == "painter/picture"
    assert pictures[name].tolist() == [[[5, 2, 7]]]


def test_no_trajectory_is_kept_for_heads_that_do_not_draw(build_learner, collected):
    learner, gallery = build_learner({"one": Head()}), Gallery()
    gallery.keep(learner, collected[0])
    assert gallery._latest is None
