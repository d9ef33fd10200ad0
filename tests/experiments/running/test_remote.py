"""Ray and SLURM; skipped where the extra is missing (`make slow` installs both)."""

import json
import os
import signal
import time

import pytest

from configs.errors import UsageError
from experiments.running.folder import is_done, last_step
from experiments.running.remote import RayTasks, SlurmArray
from experiments.running.worker import TrainingJob
from experiments.training.lock import HOLDER


@pytest.fixture
def tasks(study):
    """The runs of a small study as tasks."""
    made = study("--seed 1 2")
    made.save()
    return [
        TrainingJob(os.getcwd(), str(made.folder), run.name, run.words, 100) for run in made.runs()
    ]


def finish(backend, seconds=120):
    """Waits until a backend has nothing left; returns the exit codes by name."""
    codes, end = {}, time.monotonic() + seconds
    while backend.busy:
        assert time.monotonic() < end, "it takes too long"
        codes |= dict(backend.wait(0.1))
    return codes


def executable(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_backend_that_is_not_installed_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'auxgate\[ray\]'"):
        RayTasks(1, 0.0, "")
    with pytest.raises(UsageError, match=r"pip install 'auxgate\[slurm\]'"):
        SlurmArray(1, 0.0, (), tmp_path)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("node", "must be HOST:PORT, as node1:6379, or auto"),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_sentence(address, sentence):
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=sentence):
        RayTasks(1, 0.0, address)


def test_slurm_without_sbatch_is_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs sbatch, which is not here"):
        SlurmArray(1, 0.0, (), tmp_path)


@pytest.mark.parametrize(
    ("gpus", "settings", "sentence"),
    [(0.5, (), "SLURM gives whole GPUs"), (0.0, ("time=1h",), "must be a number of minutes")],
)
def test_what_slurm_cannot_do_is_one_sentence(gpus, settings, sentence, tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(UsageError, match=sentence):
        SlurmArray(1, gpus, settings, tmp_path, cluster="debug")


def test_the_array_is_submitted_once_with_its_limit(tasks, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    executable(tmp_path, "sbatch", f'for l; do :; done; cp "$l" {tmp_path}/script; echo job 47')
    executable(tmp_path, "srun", "exit 0")
    queue = "; ".join(f'echo "47_{number}|PENDING|"' for number in range(len(tasks)))
    executable(tmp_path, "sacct", f'echo "JobID|State|NodeList"; {queue}')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    folder = tmp_path / "slurm"
    backend = SlurmArray(1, 0.0, ("partition=short", "time=60"), folder)
    backend.start(tasks)
    script = (tmp_path / "script").read_text()
    for line in (
        f"--array=0-{len(tasks) - 1}%1",
        "--partition=short",
        "--time=60",
        "--signal=USR2",
    ):
        assert f"#SBATCH {line}" in script
    assert (backend.busy, backend.free) == (len(tasks), 0)
    # A second program finds the jobs in the queue and submits nothing.
    (tmp_path / "script").unlink()
    again = SlurmArray(1, 0.0, (), folder)
    again.start(tasks)
    assert again.busy == len(tasks)
    assert not (tmp_path / "script").exists()


@pytest.mark.slow
def test_submitit_trains_runs_to_their_end(tasks, tmp_path):
    pytest.importorskip("submitit")
    backend = SlurmArray(2, 0.0, (), tmp_path / "jobs", cluster="local")
    backend.start(tasks[:2])
    assert set(finish(backend).values()) == {0}
    assert all(is_done(task.folder, 100) for task in tasks[:2])


@pytest.mark.slow
def test_a_job_whose_time_is_over_goes_back_into_the_queue_and_goes_on(study, tmp_path):
    pytest.importorskip("submitit")
    steps = 60_000
    made = study("--seed 1 --checkpoint-minutes 0.01", steps)
    made.save()
    (run,) = made.runs()
    task = TrainingJob(os.getcwd(), str(made.folder), run.name, run.words, steps)
    backend = SlurmArray(1, 0.0, (), tmp_path / "jobs", cluster="local")
    backend.start([task])
    (job,) = backend._running
    holder = task.folder / HOLDER
    end = time.monotonic() + 300
    while not last_step(task.folder):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
    # The signal that SLURM sends before the limit.
    os.kill(json.loads(holder.read_text())["process"], signal.SIGUSR2)
    assert finish(backend, 300) == {run.name: 0}
    assert is_done(task.folder, steps)
    assert "Requeued job" in job.stdout()
    # It had saved and stopped, whatever it was doing when the signal came.
    first, _, second = task.log.read_text().partition("Go on with:")
    assert "Stopped at step" in first
    assert "Resumed at step" in second


@pytest.mark.slow
def test_a_lost_machine_of_a_ray_cluster_loses_no_run(study):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    steps = 30_000
    made = study("--seed 1 2 --checkpoint-minutes 0.01", steps)
    made.save()
    tasks = [
        TrainingJob(os.getcwd(), str(made.folder), run.name, run.words, steps)
        for run in made.runs()
    ]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    backend = RayTasks(0, 0.0, cluster.address)
    try:
        assert backend.slots == 2
        backend.start(tasks)
        end = time.monotonic() + 300
        while sum((last_step(task.folder) or 0) > 0 for task in tasks) < 2:
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        assert set(finish(backend, 300).values()) == {0}
        assert all(is_done(task.folder, steps) for task in tasks)
    finally:
        backend.close()
        cluster.shutdown()
