"""Backends on other machines: Ray and SLURM, both extras; all machines see the same folders.

Ray (https://docs.ray.io) schedules tasks with their share of CPUs and GPUs on a cluster, or on one
that is started here.  submitit (https://github.com/facebookincubator/submitit) submits arrays of
jobs to SLURM and puts those that ran out of time back into the queue.
"""

import json
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from agents.runtime.checkpoint import write_json
from configs.errors import UsageError
from envs.emulators import available_cores
from experiments.running.backends import ROOT, Ended, resolve
from experiments.running.worker import CRASHED, Job, work
from experiments.training import trainer

SYSTEM_RETRIES = 5
"""How often Ray starts a task again whose machine or process was lost; it goes on where it was."""
ARRAY_SIZE = 1000
"""Jobs in one array; SLURM's own limit (MaxArraySize) is 1001 unless a cluster changes it."""
QUEUE = "queue.json"
"""The jobs that were submitted last, by their names."""
MINUTES, MOST_TIMEOUTS = 240, 1000
"""Time limit of a job, unless --slurm time says otherwise, and how often it is started again."""
ARRAY_AT_A_TIME = 100
"""Jobs of an array that run together, unless --jobs says otherwise."""
MEETING_SECONDS = 5.0
"""To find out whether anything listens at an address."""


class RayTasks:
    """One Ray task for each job."""

    def __init__(self, jobs: int, gpus: float, address: str) -> None:
        """Joins a cluster, or starts one of this machine.

        Args:
            jobs: how many at a time; 0 for as many as fit into the cluster.
            gpus: for each, perhaps a fraction.
            address: of the cluster; empty to start one.

        Raises:
            UsageError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "--on ray needs Ray, which is not installed: pip install 'auxgate[ray]'."
            ) from error
        self._ray: Any = ray
        if address:
            _meet(address)
        started: dict[str, Any] = {
            "num_cpus": jobs or available_cores(),
            "include_dashboard": False,
        }
        try:
            self._ray.init(
                address=address or "local",
                logging_level="ERROR",
                log_to_driver=False,
                **({} if address else started),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"--address {address or 'of a new cluster'}: Ray cannot be reached "
                f"({str(error).splitlines()[0]}): start it by 'ray start --head'."
            ) from error
        share = {"num_cpus": 1, "num_gpus": gpus}
        self._work = self._ray.remote(max_retries=SYSTEM_RETRIES, **share)(work)
        self._resolve = self._ray.remote(**share)(resolve)
        self._limit = jobs or 100_000
        self._running: dict[Any, str] = {}
        total = ray.cluster_resources()
        if gpus > total.get("GPU", 0):
            self.close()
            raise UsageError(
                f"--gpus {gpus:g}: the Ray cluster has {total.get('GPU', 0):g} GPUs: ask for fewer."
            )
        fitting = total.get("CPU", 1), (total["GPU"] / gpus if gpus else float("inf"))
        self.slots = max(1, min(self._limit, int(min(fitting))))

    def pins(self) -> dict[str, str]:
        """What `auto` stands for on a worker of the cluster."""
        found: dict[str, str] = self._ray.get(self._resolve.remote())
        return found

    @property
    def free(self) -> int:
        """Ray keeps a queue, so there is room."""
        return self._limit - len(self._running)

    @property
    def busy(self) -> int:
        """Tasks that run or wait for their turn."""
        return len(self._running)

    def start(self, jobs: Sequence[Job]) -> None:
        """Puts jobs into Ray's queue."""
        for job in jobs:
            self._running[self._work.options(name=job.name).remote(job)] = job.name

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for a task to end."""
        references = list(self._running)
        if not references:
            return []
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return [(self._running.pop(each), self._code(each)) for each in ready]

    def _code(self, reference: Any) -> int:
        try:
            return int(self._ray.get(reference))
        except self._ray.exceptions.RayError:
            # The machine was lost too often, or the task was cancelled.
            return CRASHED

    def stop(self, names: Collection[str] | None = None) -> None:
        """Interrupts tasks; a run then saves and ends.

        Args:
            names: of the jobs; None for all.
        """
        for reference, name in self._running.items():
            if names is None or name in names:
                self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        self._ray.shutdown()


def _meet(address: str) -> None:
    """Finds out within seconds whether anything listens at an address.

    Raises:
        UsageError: nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not colon or not port.isdecimal():
        raise UsageError(f"--address {address} must be HOST:PORT, as node1:6379, or auto.")
    try:
        socket.create_connection((host, int(port)), MEETING_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"--address {address}: no Ray cluster answers there ({error.strerror or error}): "
            "start one by 'ray start --head', or drop --address."
        ) from error


PREEMPTIONS = (signal.SIGUSR1, signal.SIGUSR2)
"""What submitit listens to, by its version and settings."""


class Submitted:
    """A job of SLURM; submitit sends it there and back into the queue."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> int:
        """Does the job.

        SLURM sends a signal before the time limit, and submitit's handler then leaves from the
        middle of whatever is computed, which may be the code of an environment.  A run in training
        is asked to save and to end first.
        """
        over = next((each for each in PREEMPTIONS if callable(signal.getsignal(each))), None)
        if over is None:
            return work(self.job)
        requeue: Any = signal.getsignal(over)
        idle = signal.getsignal(signal.SIGTERM)
        asked = False

        def ask(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            if signal.getsignal(signal.SIGTERM) == idle:  # nothing listens to a request
                requeue(number, frame)
            asked = True
            signal.raise_signal(signal.SIGTERM)

        signal.signal(over, ask)
        code = work(self.job)
        if asked and code == trainer.STOPPED:
            requeue(over, None)
        return code

    def checkpoint(self) -> Any:
        """Says how to go on after the time limit: as before, since the folder is the state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmArray:
    """An array of SLURM jobs."""

    def __init__(
        self, jobs: int, gpus: float, settings: Sequence[str], folder: Path, cluster: str = "slurm"
    ) -> None:
        """Prepares to submit; submits nothing.

        Args:
            jobs: of an array that run together; 0 for `ARRAY_AT_A_TIME`.
            gpus: for each, a whole number.
            settings: options of sbatch, KEY=VALUE.
            folder: for what submitit writes: scripts, pickles and logs.
            cluster: slurm; local and debug run jobs on this machine, for tests.

        Raises:
            UsageError: submitit or sbatch is missing, or a setting is unknown.
        """
        try:
            import submitit
        except ImportError as error:
            raise UsageError(
                "--on slurm needs submitit, which is not installed: pip install 'auxgate[slurm]'."
            ) from error
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise UsageError(
                "--on slurm needs sbatch, which is not here: log in to a machine that submits "
                "jobs, or use --on local."
            )
        if gpus != int(gpus):
            raise UsageError(f"--gpus {gpus:g}: SLURM gives whole GPUs: use 1, or --on ray.")
        given = dict(setting.split("=", 1) for setting in settings)
        minutes = given.pop("time", str(MINUTES))
        if not minutes.isdecimal():
            raise UsageError(f"--slurm time={minutes} must be a number of minutes.")
        self.slots, self._gpus, self._folder = jobs or ARRAY_AT_A_TIME, int(gpus), folder
        self._submitit: Any = submitit
        self._running: dict[Any, str] = {}
        found = {"slurm_max_num_timeout": MOST_TIMEOUTS} if cluster == "slurm" else {}
        try:
            self._executor: Any = submitit.AutoExecutor(folder, cluster=cluster, **found)
            self._executor.update_parameters(
                name="auxgate",
                timeout_min=int(minutes),
                cpus_per_task=1,
                slurm_array_parallelism=self.slots,
                slurm_setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH"],
                slurm_additional_parameters=given,
                **({"gpus_per_node": self._gpus} if self._gpus else {}),
            )
        except (RuntimeError, NameError) as error:
            raise UsageError(f"--on slurm: {' '.join(str(error).split())}") from error

    def pins(self) -> dict[str, str]:
        """The device that was asked for, in fp32: jobs may run on different processors."""
        found = resolve()
        return {**found, "device": "cuda" if self._gpus else "cpu", "precision": "fp32"}

    @property
    def free(self) -> int:
        """One array at a time: submitit does not split what is too large."""
        return 0 if self._running else ARRAY_SIZE

    @property
    def busy(self) -> int:
        """Jobs that run or wait for their turn."""
        return len(self._running)

    def start(self, jobs: Sequence[Job]) -> None:
        """Submits jobs as one array; those that are in SLURM's queue already stay there."""
        queued = self._queued()
        self._running |= {queued[job.name]: job.name for job in jobs if job.name in queued}
        new = [job for job in jobs if job.name not in queued]
        if not new:
            return
        try:
            submitted = self._executor.submit_array([Submitted(job) for job in new])
        except Exception as error:  # whatever sbatch and submitit say
            raise UsageError(
                f"--slurm: sbatch refused the jobs ({' '.join(str(error).split())})."
            ) from error
        self._running |= dict(zip(submitted, [job.name for job in new], strict=True))
        write_json(self._folder / QUEUE, {name: job.job_id for job, name in self._running.items()})

    def _queued(self) -> dict[str, Any]:
        """The jobs of an earlier program that have not ended, by name."""
        try:
            known = json.loads((self._folder / QUEUE).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        jobs = {name: self._submitit.SlurmJob(self._folder, job) for name, job in known.items()}
        return {name: job for name, job in jobs.items() if not job.done(force_check=True)}

    def wait(self, seconds: float) -> list[Ended]:
        """Waits for jobs to end."""
        time.sleep(seconds)
        ended = [job for job in self._running if job.done()]
        return [(self._running.pop(job), self._code(job)) for job in ended]

    def _code(self, job: Any) -> int:
        try:
            return int(job.result())
        except Exception:  # whatever submitit says of a job that left no result
            return CRASHED

    def stop(self, names: Collection[str] | None = None) -> None:
        """Cancels jobs; SLURM lets those that run save and end.

        Args:
            names: of the jobs; None for all.
        """
        for job, name in self._running.items():
            if names is None or name in names:
                job.cancel()

    def close(self) -> None:
        """Holds nothing: jobs are SLURM's."""
