import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.base import Step
from envs.episodes import Episodes, summary_of

CPU = torch.device("cpu")


def make_step(reward, ended, valid=None):
    size = len(reward)
    ended = torch.tensor(ended)
    return Step(
        observation=torch.zeros(size, 1),
        reward=torch.tensor(reward, dtype=torch.float32),
        # An end of life for everybody: only `ended` may close an episode.
        terminated=torch.ones(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
        valid=torch.ones(size, dtype=torch.bool) if valid is None else torch.tensor(valid),
        ended=ended,
    )


def slow_bookkeeping(steps):
    """Lists (return, length) of the finished episodes, in order of time and environment."""
    size = len(steps[0][0])
    returns, lengths, finished = [0.0] * size, [0] * size, []
    for reward, ended, valid in steps:
        for b in range(size):
            returns[b] += reward[b]
            lengths[b] += valid[b]
            if ended[b]:
                finished.append((returns[b], lengths[b]))
                returns[b], lengths[b] = 0.0, 0
    return finished


@st.composite
def histories(draw):
    size = draw(st.integers(1, 5))

    def row(values):
        return st.lists(values, min_size=size, max_size=size)

    step = st.tuples(row(st.integers(-9, 9)), row(st.booleans()), row(st.booleans()))
    return draw(st.lists(step, min_size=1, max_size=40))


@settings(deadline=None)
@given(history=histories(), window=st.integers(1, 7))
def test_every_episode_is_that_of_slow_bookkeeping(history, window):
    episodes = Episodes(len(history[0][0]), CPU, window)
    for reward, ended, valid in history:
        episodes.update(make_step(reward, ended, valid))
    finished = slow_bookkeeping(history)
    latest = finished[-window:]
    returns, lengths = episodes.latest()
    assert list(zip(returns.tolist(), lengths.tolist(), strict=True)) == latest

    summary = episodes.summary()
    assert (summary.finished, summary.averaged) == (len(finished), len(latest))
    if latest:
        assert summary.mean_return == pytest.approx(sum(r for r, _ in latest) / len(latest))
        assert summary.mean_length == pytest.approx(sum(n for _, n in latest) / len(latest))


def test_each_environment_has_a_slot_of_its_own_however_small_the_window():
    # Two writers of one slot would leave either's value there on a GPU.
    assert Episodes(5, CPU, window=2).capacity == 5
    assert Episodes(5, CPU, window=9).capacity == 9


def test_before_the_first_episode_has_finished_the_means_are_not_numbers():
    summary = Episodes(3, CPU).summary()
    assert (summary.finished, summary.averaged) == (0, 0)
    assert math.isnan(summary.mean_return)
    assert math.isnan(summary.mean_length)


def test_a_game_of_several_lives_is_one_episode():
    episodes = Episodes(1, CPU)
    episodes.update(make_step([3.0], [False]))  # terminated, but not ended
    episodes.update(make_step([0.0], [False], valid=[False]))
    episodes.update(make_step([4.0], [True]))
    summary = episodes.summary()
    assert (summary.finished, summary.mean_return, summary.mean_length) == (1, 7.0, 2.0)


def test_draining_counts_anew_and_keeps_the_means():
    episodes = Episodes(2, CPU)
    episodes.update(make_step([1.0, 5.0], [True, True]))
    assert episodes.drain().finished == 2
    episodes.update(make_step([6.0, 0.0], [True, False]))
    summary = episodes.drain()
    assert (summary.finished, summary.averaged, summary.mean_return) == (1, 3, 4.0)
    assert episodes.drain().finished == 0


def test_a_summary_counts_without_draining():
    episodes = Episodes(2, CPU)
    episodes.update(make_step([1.0, 5.0], [True, True]))
    assert episodes.summary() == episodes.summary() == episodes.drain()


def test_restarting_forgets_the_episode_under_way_and_keeps_the_finished():
    episodes = Episodes(2, CPU)
    episodes.update(make_step([1.0, 8.0], [True, False]))
    episodes.restart()
    episodes.update(make_step([2.0, 3.0], [False, True]))
    returns, lengths = episodes.latest()
    assert returns.tolist() == [1.0, 3.0]
    assert lengths.tolist() == [1, 1]


def test_a_restored_tracker_continues_as_the_saved_one():
    def play(episodes, first, last):
        for t in range(first, last):
            episodes.update(make_step([t, 2.0 * t, 1.0], [t % 3 == 0, t % 4 == 0, False]))

    whole = Episodes(3, CPU, window=4)
    play(whole, 1, 20)
    saved = Episodes(3, CPU, window=4)
    play(saved, 1, 10)
    saved.drain()
    whole_finished = whole.summary().finished
    restored = Episodes(3, CPU, window=4)
    restored.load_state_dict({name: t.clone() for name, t in saved.state_dict().items()})
    play(restored, 10, 20)
    assert restored.latest()[0].tolist() == whole.latest()[0].tolist()
    # Ends before step 10 were drained: those of 3, 6, 9 and of 4, 8.
    assert restored.drain().finished == whole_finished - 5


def test_sums_of_two_trackers_add_up_to_those_of_both():
    # Returns 1, 5, 6 with lengths 1, 1, 1 here, 2 and 10 with lengths 1 and 2 there.
    here, there, empty = Episodes(2, CPU), Episodes(1, CPU), Episodes(3, CPU)
    here.update(make_step([1.0, 5.0], [True, True]))
    here.update(make_step([6.0, 9.0], [True, False]))
    there.update(make_step([2.0], [True]))
    there.update(make_step([4.0], [False]))
    there.update(make_step([6.0], [True]))
    summary = summary_of(here.sums() + there.sums() + empty.sums())
    assert (summary.finished, summary.averaged) == (5, 5)
    assert (summary.mean_return, summary.mean_length) == (24 / 5, 6 / 5)


def test_draining_several_trackers_reads_their_sums_and_counts_each_anew():
    here, there = Episodes(1, CPU), Episodes(1, CPU)
    for episodes, reward in ((here, 1.0), (there, 3.0)):
        episodes.update(make_step([reward], [True]))
    summary = here.drain(lambda sums: sums + there.sums())
    assert (summary.finished, summary.mean_return) == (2, 2.0)
    assert here.summary().finished == 0
    assert there.summary().finished == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_update_on_the_gpu_never_waits_for_it(never_waits):
    device = torch.device("cuda")
    episodes = Episodes(3, device)
    host = make_step([1.0, 2.0, 3.0], [True, False, True])
    step = Step(**{name: getattr(host, name).to(device) for name in host.__match_args__[:6]})
    episodes.update(step)
    with never_waits():
        episodes.update(step)
    assert episodes.drain().finished == 4
