"""Which runs are captured in CUDA graphs, and what the others say; no GPU is needed to decide."""

from dataclasses import replace

import pytest
import torch

from agents.runtime.distributed import Processes
from agents.runtime.graphs import NoCapture
from configs.cli import parse
from configs.errors import UsageError
from experiments.training import capturing
from experiments.training.build import build
from tests.experiments.sessions import HARDWARE, SMALL, complaint

ON_GPU = replace(HARDWARE, device=torch.device("cuda"))


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """The generators of each capture that was made, and whether it is lenient."""
    found = []

    def capture(device, generators=(), *, lenient):
        found.append((list(generators), lenient))
        return NoCapture()

    monkeypatch.setattr(capturing, "CudaCapture", capture)
    return found


def said(line, hardware=ON_GPU, asked="auto", resumes=False, **changes):
    config = parse(f"{SMALL} {line}".replace("num-envs 2", "num-envs 4").split())
    session = build(config, HARDWARE)
    config = replace(config, run=replace(config.run, cuda_graphs=asked, **changes))
    parts = (session.learner, session.collector, torch.Generator())
    return capturing.capture(config, hardware, *parts, resumes=resumes)


@pytest.mark.parametrize("asked", ["auto", "on"])
def test_learner_and_collector_are_captured_on_a_gpu(asked, made):
    assert said("--aux inverse", asked=asked) == "Acting and updates run as CUDA graphs."
    assert [(len(generators), lenient) for generators, lenient in made] == [
        (0, asked == "auto"),
        (1, asked == "auto"),
    ]


UNFIT = {
    "--aux inverse --gate significant --gate.significant.slices 3": "--gate significant",
    "--aux inverse --gate attittud": "--gate attittud",
}


@pytest.mark.parametrize(("line", "part"), UNFIT.items())
def test_a_part_that_cannot_be_captured_is_named(line, part, made):
    assert said(line) == f"No CUDA graphs, which cannot capture {part}."
    with pytest.raises(UsageError, match=f"^--cuda-graphs on cannot capture {part}: drop one of"):
        said(line, asked="on")
    assert made == []


def test_a_head_that_does_not_allow_it_is_named(monkeypatch):
    monkeypatch.setattr("agents.heads.dynamics.Inverse.capturable", False)
    assert said("--aux inverse") == "No CUDA graphs, which cannot capture --aux inverse."


def test_a_compiled_torso_is_not_captured():
    assert said("", compile=True) == "No CUDA graphs, which cannot capture --compile."


def test_several_processes_are_not_captured():
    several = replace(ON_GPU, processes=Processes(0, 2))
    assert "a run of several processes" in said("", several)


@pytest.mark.parametrize("asked", ["auto", "off"])
def test_nothing_is_said_where_nobody_expects_graphs(asked, made):
    assert said("", HARDWARE if asked == "auto" else ON_GPU, asked) == ""
    assert made == []


def test_graphs_are_refused_without_a_gpu_unless_a_run_goes_on():
    assert complaint("--cuda-graphs on") == (
        "--cuda-graphs on needs a GPU, and this run is on cpu: drop it."
    )
    assert said("", HARDWARE, "on", resumes=True) == ""
