"""A sweep that takes a second, and results made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.tabular import SampledConfig
from configs.programs import SweepConfig
from experiments.sweep.arms import arms, teachings
from experiments.sweep.folder import Results, settle
from experiments.sweep.output import read, write_tables
from gridworld import WorldConfig

TINY = SweepConfig(
    worlds=3,
    temperatures=(0.0, 1.0),
    gates=("sum", "cosine"),
    updates=5,
    points=2,
    seeds=2,
    world=WorldConfig(height=6, width=7, terminal_probability=0.1),
    practice=SampledConfig(num_envs=2, unroll_length=3),
    # Main-only, and two gates with four teachers: nine arms, so four rows.
    chunk=36,
    device="cpu",
)


@pytest.fixture
def tiny():
    """A settled sweep: 3 worlds, 2 seeds, 9 arms, in chunks of 4 and 2 rows."""
    return settle(TINY, torch.device("cpu"))


@pytest.fixture
def build_results():
    """Makes results from the final return of each arm, the same in all worlds but for noise.

    Curves rise evenly from 0 in the first half of the steps and stay.  Random is 0, the optimum
    10, and a teacher's return its place among the teachings.
    """

    def build_results(final, worlds=20, noise=0.1, **options):
        config = replace(TINY, worlds=worlds, seeds=1, points=20, updates=400, **options)
        config = settle(config, torch.device("cpu"))
        everyone = arms(config)
        level = np.array([final(arm) for arm in everyone])[:, None]
        rng = np.random.default_rng(0)
        level = level + noise * rng.standard_normal((len(everyone), worlds))
        # Points after 0, 1, 4, 9, ..., 400 updates.
        rise = np.minimum(np.arange(21) ** 2 / 200, 1)[:, None, None]
        taught = np.arange(len(teachings(config)), dtype=float)[:, None].repeat(worlds, 1)
        return Results(
            config=config,
            expected_return=rise * level,
            cosine=np.full((20, len(everyone), worlds), 0.25),
            weight=np.full((20, len(everyone), worlds), 0.5),
            teacher=taught,
            optimum=np.full(worlds, 10.0),
            random=np.zeros(worlds),
            cells=np.full(worlds, 9.0),
            aliased=np.full(worlds, 4.0),
        )

    return build_results


@pytest.fixture
def tables_of(tmp_path):
    """Writes results into tables and reads those."""

    def tables_of(results):
        write_tables(results, tmp_path)
        return read(tmp_path)

    return tables_of
