import numpy as np
import pytest
import torch

from agents.gates import make
from examples import tanh
from examples.students import build_students
from examples.tanh import RELATIONS, Problems, Sizes, error, evaluate, learn

SIZES = Sizes(inputs=5, outputs=2, units=4, samples=12, tests=30, batch=5)
LAMBDAS = (0.0, 2.0)


@pytest.fixture
def problems():
    """K = 3 seeds."""
    return Problems.draw(SIZES, seeds=3)


def test_sizes_are_scaled_together():
    assert Sizes.scaled(1.0) == Sizes()
    assert Sizes.scaled(0.2) == Sizes(50, 20, 20, 200, 2000, 20)


def test_targets_are_the_papers(problems):
    assert problems.main.targets.shape == (1, 3, 12, 2)
    assert problems.auxiliary.targets.shape == (len(RELATIONS), 3, 12, 2)
    assert problems.test.targets.shape == (1, 3, 30, 2)
    # Seed 1 once more: B, what makes it similar, B of its own; then the inputs of all splits.
    generator = torch.Generator().manual_seed(1)
    main, noise, other = (torch.randn(5, 2, generator=generator) for _ in range(3))
    inputs = torch.rand(12 + 12 + 12 + 30, 5, generator=generator)
    splits = (problems.main, problems.auxiliary, problems.validation, problems.test)
    for split, given in zip(splits, inputs.split([12, 12, 12, 30]), strict=True):
        assert torch.equal(split.inputs[1], given)
        torch.testing.assert_close(split.targets[0, 1], torch.tanh(given @ (10 * main)))
    own = problems.auxiliary.inputs[1]
    _, similar, unrelated = problems.auxiliary.targets[:, 1]
    torch.testing.assert_close(similar, torch.tanh(own @ (10 * main + 3.5 * noise)))
    torch.testing.assert_close(unrelated, torch.tanh(own @ (10 * other)))


def test_a_seed_has_its_own_data(problems):
    fewer = Problems.draw(SIZES, seeds=1)
    assert torch.equal(fewer.auxiliary.targets[:, 0], problems.auxiliary.targets[:, 0])
    assert not torch.equal(problems.main.inputs[0], problems.main.inputs[1])


def test_an_error_is_that_of_the_seeds_own_batch(problems):
    seed, relation = torch.tensor([2, 0]), torch.tensor([1, 2])
    students = build_students([SIZES.inputs, SIZES.units], SIZES.outputs, [4, 5])
    batch = torch.tensor([[0, 1], [2, 3], [4, 5]])
    found = error(students, 1, problems.auxiliary, relation, seed, batch)
    for index, (k, r) in enumerate([(2, 1), (0, 2)]):
        inputs = problems.auxiliary.inputs[k, batch[k]]
        outputs = students.outputs(inputs.expand(2, -1, -1), 1)[index]
        wanted = problems.auxiliary.targets[r, k, batch[k]]
        torch.testing.assert_close(found[index], (outputs - wanted).square().mean())


def test_an_evaluation_in_pieces_is_one_of_all(problems, monkeypatch):
    students = build_students([SIZES.inputs, SIZES.units], SIZES.outputs, [4])
    whole = evaluate(students, problems.test, torch.tensor([1]))
    monkeypatch.setattr(tanh, "AT_ONCE", 7)
    torch.testing.assert_close(evaluate(students, problems.test, torch.tensor([1])), whole)
    outputs = students.outputs(problems.test.inputs[1:2], 0)[0]
    torch.testing.assert_close(whole[0], (outputs - problems.test.targets[0, 1]).square().mean())


def test_an_auxiliary_that_counts_nothing_leaves_main_only_learning(problems):
    alone = learn(problems, None, (), epochs=3)
    added = learn(problems, make("sum"), LAMBDAS, epochs=3)
    assert alone.test.shape == (1, 1, 3)
    assert added.test.shape == (len(RELATIONS), len(LAMBDAS), 3)
    for row in added.test[:, 0]:
        np.testing.assert_allclose(row, alone.test[0, 0], rtol=1e-5)
    assert (np.abs(added.test[:, 1] - alone.test[0, 0]) > 1e-5).all()


def test_a_network_does_not_know_its_neighbours(problems):
    both = learn(problems, make("projection", decay=0.9), LAMBDAS, epochs=2)
    single = learn(problems, make("projection", decay=0.9), LAMBDAS[1:], epochs=2)
    np.testing.assert_allclose(both.test[:, 1:], single.test, rtol=1e-4)


def test_the_best_epoch_counts(problems):
    longer = [learn(problems, None, (), epochs).validation for epochs in (1, 4)]
    assert (longer[1] <= longer[0]).all()


def test_every_network_ends_where_its_own_validation_no_longer_improves(problems, monkeypatch):
    # With patience for one epoch, what follows a network's first worse one does not count.
    monkeypatch.setattr(tanh, "PATIENCE", 1)
    told = torch.tensor(
        [[3.0, 2.0, 2.5, 1.0, 0.5], [5.0, 4.0, 3.0, 1.5, 1.6], [9.0, 9.1, 0.0, 0.0, 0.0]]
    )
    weights = []

    def oracle(students, split, seed):
        weights.append(students.heads[0][0].detach().clone())
        return torch.zeros(3) if split is problems.test else told[:, len(weights) - 1]

    monkeypatch.setattr(tanh, "evaluate", oracle)
    assert learn(problems, None, (), epochs=9).validation.tolist() == [[[2.0, 1.5, 9.0]]]
    # Five epochs, the last of which ends the second network; then the tests, of the best weights.
    *epochs, tested = weights
    assert len(epochs) == 5
    for network, best in enumerate([1, 3, 0]):
        assert torch.equal(tested[network], epochs[best][network])
