import torch

from agents.learning.batches import Batch, dealt
from agents.trajectory import Targets

B = 6


def batch_of(build_trajectory):
    return Batch(build_trajectory(batch=B), Targets(), [Targets()])


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def minibatches(whole, count, shuffling):
    return [whole.select(part) for part in dealt(whole.trajectory, count, shuffling)]


def test_one_minibatch_is_the_whole_and_draws_nothing(build_trajectory):
    whole, shuffling = batch_of(build_trajectory), chance()
    assert minibatches(whole, 1, shuffling) == [whole]
    assert torch.equal(shuffling.get_state(), chance().get_state())


def test_every_environment_is_in_one_minibatch_with_its_whole_column(build_trajectory):
    whole = batch_of(build_trajectory)
    parts = minibatches(whole, 3, chance())
    assert [part.trajectory.action.shape for part in parts] == [(3, 2)] * 3
    columns = torch.cat([part.trajectory.observation for part in parts], 1).unbind(1)
    found = [
        next(b for b in range(B) if torch.equal(column, whole.trajectory.observation[:, b]))
        for column in columns
    ]
    assert sorted(found) == list(range(B))
    assert found != list(range(B))
    assert all(len(part.heads) == 1 for part in parts)


def test_the_order_changes_from_epoch_to_epoch_and_is_that_of_the_seed(build_trajectory):
    whole, shuffling = batch_of(build_trajectory), chance()

    def epoch(generator):
        parts = minibatches(whole, 2, generator)
        return torch.cat([part.trajectory.reward for part in parts], 1)

    first, second = epoch(shuffling), epoch(shuffling)
    assert not torch.equal(first, second)
    assert torch.equal(first, epoch(chance()))
