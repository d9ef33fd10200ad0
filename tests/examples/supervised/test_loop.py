import torch
from torch import nn

from agents.gates import make
from examples.supervised.classify import Classification, Set, accuracy_of
from examples.supervised.loop import Network, train
from examples.supervised.networks import Block, SegNet, Tagger, jigsaw, residual_network


def problem(opposed=False):
    """Which side is a point on? The auxiliary asks the same, or for the opposite."""
    generator = torch.Generator().manual_seed(0)

    def draw(count, flip=False):
        pixels = torch.randn(count, 1, 1, 2, generator=generator)
        labels = (pixels[:, 0, 0, 0] > 0).long()
        return Set(pixels, 1 - labels if flip else labels)

    return Classification(
        draw(40),
        [draw(60, flip=opposed)],
        draw(50),
        lambda: Network(
            nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.Tanh()),
            [nn.Linear(4, 2) for _ in range(2)],
        ),
        batch=8,
        learning_rate=0.05,
    )


def weights(trained):
    return torch.cat([each.detach().flatten() for each in trained.network.trunk.parameters()])


def test_a_network_learns_its_main_task_and_seeds_repeat():
    first, second = (train(problem(), None, 0, 60) for _ in range(2))
    assert first.scores["accuracy"] > 0.9
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(train(problem(), None, 1, 60)))
    assert first.cosine.isnan().all()


def test_a_gate_measures_the_cosine_and_changes_the_trunk():
    summed = train(problem(), make("sum"), 0, 20)
    gated = train(problem(), make("cosine"), 0, 20)
    assert summed.cosine.isnan().all()
    assert gated.cosine.abs().max() <= 1
    assert not torch.equal(weights(summed), weights(gated))


def test_gates_get_samples_slices_and_a_learnt_preference():
    for name, options in (
        ("attittud", {"rank": 2, "refresh": 2}),
        ("attittud", {"rank": 2, "refresh": 2, "fresh": True}),
        ("significant", {}),
        ("gradnorm", {"main_ratio": True}),
    ):
        found = train(problem(), make(name, **options), 0, 12)
        assert found.cosine.isfinite().all()
        assert found.preference == []
    learnt = train(problem(), make("auxinash", learn_every=2), 0, 12).preference
    assert abs(sum(learnt) - 1) < 1e-6
    assert learnt != [0.5, 0.5]


def test_features_are_rotated_where_tasks_share_them():
    class Shared(Classification):
        width = 4

        def losses(self, network, batch, alone):
            features = network.features(self.main.pixels[batch[0]])
            wanted = self.main.labels[batch[0]]
            return [
                nn.functional.cross_entropy(network.answer(features, task), wanted)[None]
                for task in range(1 if alone else 2)
            ]

    base = problem()
    shared = Shared(base.main, base.auxiliaries, base.test, base.build, 8, learning_rate=0.05)
    found = train(shared, make("rotograd", block=0, pace=1.0), 0, 30)
    matrix = found.network.rotations.matrix[0, 0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), atol=1e-5, rtol=0)
    assert (matrix - torch.eye(4)).abs().max() > 1e-3
    assert found.scores["accuracy"] > 0.8


def test_accuracy_is_the_mean_over_classes():
    said, right = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    assert abs(accuracy_of(said, right) - (2 / 3 + 1) / 2) < 1e-6


def test_quarters_change_their_places():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    order = torch.tensor([[3, 1, 2, 0]])
    moved = jigsaw(image, order)
    assert torch.equal(moved[0, 0, :2, :2], image[0, 0, 2:, 2:])
    assert torch.equal(moved[0, 0, 2:, 2:], image[0, 0, :2, :2])
    assert torch.equal(moved[0, 0, :2, 2:], image[0, 0, :2, 2:])
    assert torch.equal(jigsaw(moved, order), image)


def test_networks_end_in_the_features_that_are_expected():
    images = torch.randn(2, 3, 8, 8)
    assert residual_network(3, 4, (1, 2))(images).shape == (2, 8)
    assert Block(4, 8, 2)(torch.randn(2, 4, 8, 8)).shape == (2, 8, 4, 4)
    # An odd side, as 288 becomes after five poolings.
    assert SegNet(3, (4, 8))(torch.randn(2, 3, 9, 10)).shape == (2, 4, 9, 10)


def test_a_tagger_does_not_read_what_fills_a_sentence_up():
    tagger = Tagger(words=9, embedding=3, units=2, layers=1, dropout=0.0)
    alone = tagger(torch.tensor([[4, 2, 7]]))
    filled = tagger(torch.tensor([[4, 2, 7, 0, 0], [1, 1, 1, 1, 1]]))
    torch.testing.assert_close(filled[0, :3], alone[0])
    assert filled[0, 3:].abs().max() == 0
