import math

import pytest
import torch

from agents.statistics import RunningMean, averaged


def scalars(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_the_mean_is_over_all_updates_since_the_last_one():
    mean = RunningMean()
    for loss in (1.0, 2.0, 6.0):
        mean.add(scalars(loss=loss, norm=2 * loss))
    assert mean.drain() == {"loss": 3.0, "norm": 6.0}
    mean.add(scalars(loss=5.0, norm=7.0))
    assert mean.drain() == {"loss": 5.0, "norm": 7.0}


def test_what_was_not_measured_does_not_count():
    mean = RunningMean()
    mean.add(scalars(cosine=math.nan, loss=1.0))
    mean.add(scalars(cosine=0.5, loss=2.0))
    mean.add(scalars(cosine=math.nan, loss=6.0))
    assert mean.drain() == {"cosine": 0.5, "loss": 3.0}


def test_updates_may_measure_different_things():
    mean = RunningMean()
    mean.add(scalars(loss=1.0, cosine=-0.5))
    mean.add(scalars(loss=2.0))
    mean.add(scalars(loss=6.0))
    assert mean.drain() == {"loss": 3.0, "cosine": -0.5}


def test_a_name_stays_when_it_is_no_longer_measured():
    mean = RunningMean()
    mean.add(scalars(loss=1.0, cosine=-0.5))
    mean.drain()
    mean.add(scalars(loss=2.0))
    means = mean.drain()
    assert means["loss"] == 2.0
    assert math.isnan(means["cosine"])


def test_an_infinite_loss_is_shown_and_not_hidden():
    mean = RunningMean()
    mean.add(scalars(loss=1.0))
    mean.add(scalars(loss=math.inf))
    assert mean.drain() == {"loss": math.inf}


def test_there_is_nothing_before_the_first_update():
    mean = RunningMean()
    mean.add({})
    assert mean.drain() == {}


def test_the_mean_holds_neither_graph_nor_the_updates_own_tensors():
    mean = RunningMean()
    weight = torch.tensor(2.0, requires_grad=True)
    loss = weight * 3
    mean.add({"loss": loss})
    assert not any(total.requires_grad for total in mean._totals.values())
    with torch.no_grad():
        loss.zero_()
    assert mean.drain() == {"loss": 6.0}


def test_several_updates_become_one_by_their_means_on_the_device():
    several = [
        scalars(loss=1.0, norm=2.0),
        scalars(loss=2.0, norm=4.0),
        scalars(loss=6.0, norm=3.0),
    ]
    assert averaged(several) == scalars(loss=3.0, norm=3.0)


def test_of_one_update_the_numbers_are_its_own():
    only = scalars(loss=1.0, cosine=math.nan)
    result = averaged([only])
    assert result["loss"] is only["loss"]
    assert result is not only


def test_of_a_count_the_latest_is_taken():
    several = [scalars(loss=1.0, skipped=0.0), scalars(loss=3.0, skipped=2.0)]
    assert averaged(several, latest=("skipped",)) == scalars(loss=2.0, skipped=2.0)


def test_what_an_update_did_not_measure_does_not_count_among_several():
    several = [scalars(loss=1.0, cosine=0.5), scalars(loss=2.0), scalars(loss=3.0, cosine=math.nan)]
    result = averaged(several)
    assert (result["loss"], result["cosine"]) == (2.0, 0.5)
    assert averaged([scalars(cosine=math.nan)] * 2)["cosine"].isnan()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_only_the_drain_waits_for_the_device(never_waits):
    mean = RunningMean()
    values = {"loss": torch.ones((), device="cuda"), "norm": torch.ones((), device="cuda")}
    with never_waits():
        for _ in range(3):
            mean.add(values)
    assert mean.drain() == {"loss": 1.0, "norm": 1.0}
