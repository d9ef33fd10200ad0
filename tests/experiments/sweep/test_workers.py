from dataclasses import replace

import pytest
import torch

from experiments.running.backends import Local
from experiments.sweep.chunks import Work, choose_workers, compute_all
from experiments.sweep.folder import create, load
from gridworld import WorldConfig


def work(tiny, folder, missing=(0, 1)):
    config = replace(tiny, output=str(folder))
    return Work(config, create(config), missing)


def returns(work):
    return [load(work.folder, number).expected_return for number in (0, 1)]


def test_one_worker_computes_what_is_missing_in_this_process(tmp_path, tiny):
    told = []
    job = work(tiny, tmp_path / "one", missing=(1,))
    compute_all(job, None, told.append)
    assert load(job.folder, 0) is None
    assert load(job.folder, 1) is not None
    # 2 rows of 9 arms, 5 updates.
    assert sum(told) == 5 * 18


@pytest.mark.seconds
def test_two_workers_get_the_same_bits_as_one(tmp_path, tiny):
    alone, together = work(tiny, tmp_path / "one"), work(tiny, tmp_path / "two")
    compute_all(alone, None, lambda count: None)
    told = []
    compute_all(together, Local(2, 0), told.append)
    assert sum(told) == 5 * 54
    for one, two in zip(returns(alone), returns(together), strict=True):
        assert torch.equal(one, two)


@pytest.mark.seconds
def test_worlds_that_cannot_be_made_are_reported_by_whoever_meets_them(tmp_path, tiny):
    poor = WorldConfig(height=6, width=7, terminal_rewards=(1.0,), terminal_probability=0.1)
    job = work(replace(tiny, world=poor, change="swap"), tmp_path / "two")
    with pytest.raises(ValueError, match="swap needs two positive"):
        compute_all(job, Local(2, 0), lambda count: None)


def test_a_gpu_is_fed_by_one_process_and_a_cpu_by_one_for_each_core(tiny):
    assert choose_workers(replace(tiny, workers=5)) == 5
    assert choose_workers(tiny) >= 1
    assert choose_workers(replace(tiny, device="cuda", workers=5)) == 1
