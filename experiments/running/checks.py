"""Builds one run of each kind before a study starts, so that a mistake costs nothing.

What options say about each other is checked as they are parsed.  What only shows when a run is
built (a missing teacher, a head that does not fit an environment, a gate that cannot do what it
is asked) is found here: gates and minibatches for every run, all else once for each environment,
set of components, demand of a gate on the network and set of texts, since a text may name a file.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from configs.errors import UsageError, naming
from configs.grid import Planned
from configs.training import TrainConfig
from experiments.running.backends import forked, importable
from experiments.running.worker import end_with_parent
from experiments.training.build import build, check_update, gate_of
from experiments.training.hardware import Hardware


def check(runs: Sequence[Planned]) -> None:
    """Refuses a study of which a run could not start.

    Args:
        runs: of the study.

    Raises:
        UsageError: it names the run.
    """
    arms: set[str] = set()
    kinds: dict[Any, tuple[str, TrainConfig]] = {}
    for run in runs:
        config = replace(run.config, run=replace(run.config.run, seed=1))
        arm = repr(config)
        if arm not in arms:
            arms.add(arm)
            with _said_of(run.name):
                check_arm(config)
            kinds.setdefault(_kind(config), (run.name, config))
    # In another process, so that this one does not keep the memory of networks and emulators.
    pool = ProcessPoolExecutor(1, mp_context=forked(), initializer=end_with_parent)
    with importable(), pool as process:
        try:
            process.submit(build_all, list(kinds.values())).result()
        except BrokenProcessPool as error:
            raise UsageError(
                "a process that built one run of each kind was killed, perhaps for lack of memory: "
                "use fewer --num-envs, or end other programs."
            ) from error


def build_all(named: Sequence[tuple[str, TrainConfig]]) -> None:
    """Builds runs, one after the other.

    Args:
        named: the configs, each with the name of a run.

    Raises:
        UsageError: one cannot be built.
    """
    hardware = Hardware(torch.device("cpu"), "fp32", 1, "")
    for name, config in named:
        with _said_of(name):
            # Graphs are of a GPU, and this process has none; a trial would take minutes.
            config = replace(config, run=replace(config.run, cuda_graphs="auto"))
            build(config, hardware, tries_teachers=False).close()


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{error} (This is said of the run {name}.)") from error


def check_arm(config: TrainConfig) -> None:
    """Checks what costs nothing to check.

    Raises:
        UsageError: a minibatch or the gate cannot be as it is asked for.
    """
    algorithm = config.algo.build(config.run.discount)
    with naming(config.env, "env"):
        num_envs = min(config.task_sizes)
    check_update(config, algorithm, gate_of(config), num_envs)


def _kind(config: TrainConfig) -> Any:
    """What the building of a run depends on, apart from numbers and from what all gates can do."""
    choice = replace(config.choice, gate=None)
    gate = gate_of(config)
    needs = gate.needs_network, gate.slices > 0, config.judging.at
    components = (config.env, config.torso, config.core, *config.heads.values())
    texts = tuple(text for each in components for text in _texts(asdict(each)))
    return choice, needs, config.tasks, config.run.num_envs, config.run.unroll_length, texts


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)
