"""Experiment trackers: Weights & Biases, trackio and MLflow take a run's log next to the files.

A tracker gets the numbers of every log line under the names of `metrics.csv`, the options of the
run, its pictures and its films.  Its package is imported when a run asks for it.  `tracking.json`
in the run's folder keeps the tracker's id, so that a resumed run goes on where it was.

Training never waits for a tracker and never ends because of one: each works in a thread, and the
first error is one warning, after which the tracker gets no more.
"""

import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import copy_context
from importlib.util import find_spec
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from agents.runtime.checkpoint import write_json
from gridworld.options import OptionError

TrackerName = Literal["wandb", "trackio", "mlflow"]

TRACKING = "tracking.json"
"""In the run's folder: the id of the run in each tracker."""
LOCAL = (TRACKING, "wandb")
"""What a copy of a run's folder leaves out: the copy is a run of its own for a tracker."""
PROJECT = "auxgate"
"""Project or experiment in the tracker, unless its own environment variable names another."""

MOST_WAITING = 1_000
"""Lines and pictures that may wait for a tracker before the run goes on without it."""
PATIENCE = 60.0
"""Seconds that the end of a run waits for a tracker to take the rest."""

Pictures = Mapping[str, UInt8[np.ndarray, "_ _ 3"]]


@runtime_checkable
class Tracker(Protocol):
    """One run in one tracker."""

    @property
    def id(self) -> str:
        """By which the tracker finds the run again."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Takes the numbers of a log line."""

    def show(self, step: int, pictures: Pictures) -> None:
        """Takes pictures by name."""

    def film(self, step: int, path: Path) -> None:
        """Takes a film."""

    def close(self) -> None:
        """Sends the rest."""


Opener = Callable[[Path, str, Mapping[str, object]], Tracker]
"""Starts a run, or continues the one of an id: from the folder, the id or "", and the options."""


class _Wandb:
    """A run in Weights & Biases; `WANDB_MODE=offline` keeps it in the run's folder."""

    def __init__(self, folder: Path, known: str, options: Mapping[str, object]) -> None:
        # W&B takes our package `agents` for another one and recommends what goes with that.
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        import wandb

        self._wandb: Any = wandb
        self.id = known or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=str(folder),
            id=self.id,
            name=folder.name,
            resume="allow",
            config=dict(options),
            allow_val_change=True,
            # The terminal is ours.
            settings=wandb.Settings(console="off", silent=True),
        )
        # W&B drops what comes with a smaller step of its own; a resumed run begins earlier.
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"global_step": step, **numbers})

    def show(self, step: int, pictures: Pictures) -> None:
        images = {name: self._wandb.Image(picture) for name, picture in pictures.items()}
        self._run.log({"global_step": step, **images})

    def film(self, step: int, path: Path) -> None:
        film = self._wandb.Video(str(path), format=path.suffix.removeprefix("."))
        self._run.log({"global_step": step, "film": film})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A run in trackio, on this machine unless `TRACKIO_SPACE_ID` names a space."""

    def __init__(self, folder: Path, known: str, options: Mapping[str, object]) -> None:
        import trackio

        self._trackio: Any = trackio
        # trackio finds a run by its name.
        self.id = known or f"{folder.name}-{uuid.uuid4().hex[:8]}"
        # In a context of its own, or trackio would finish the run once more at the exit.
        with redirect_stdout(io.StringIO()):
            self._run = copy_context().run(
                trackio.init,
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                name=self.id,
                config=dict(options),
                resume="allow",
                embed=False,
            )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def show(self, step: int, pictures: Pictures) -> None:
        images = {name: self._trackio.Image(picture) for name, picture in pictures.items()}
        self._run.log(images, step=step)

    def film(self, step: int, path: Path) -> None:
        self._run.log({"film": self._trackio.Video(str(path))}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run in MLflow, at `MLFLOW_TRACKING_URI` or in MLflow's default place."""

    def __init__(self, folder: Path, known: str, options: Mapping[str, object]) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._metric: Any = Metric
        if known:
            self.id = self._client.get_run(known).info.run_id
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self.id = self._client.create_run(place, run_name=folder.name).info.run_id
        params = [Param(name, str(value)) for name, value in options.items()]
        for start in range(0, len(params), 100):  # as many as MLflow takes at once
            self._client.log_batch(self.id, params=params[start : start + 100])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def show(self, step: int, pictures: Pictures) -> None:
        for name, picture in pictures.items():
            self._client.log_image(self.id, picture, key=name.replace("/", "."), step=step)

    def film(self, step: int, path: Path) -> None:
        self._client.log_artifact(self.id, str(path), f"films/{step}")

    def close(self) -> None:
        self._client.set_terminated(self.id)


OPENERS: Mapping[str, Opener] = {"wandb": _Wandb, "trackio": _Trackio, "mlflow": _MLflow}


def check_installed(names: Iterable[str], option: str = "track") -> None:
    """Refuses trackers whose package is missing.

    Args:
        names: of the trackers.
        option: that names them, for the message.

    Raises:
        OptionError: one is missing.
    """
    for name in names:
        found = find_spec(name)
        # W&B leaves folders called wandb, each of which could be imported as an empty package.
        if found is None or found.origin is None:
            raise OptionError(
                option,
                f"{name} needs a package that is not installed: pip install {name}, or drop it.",
            )


class Trackers:
    """The trackers of a run."""

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        options: Mapping[str, object],
        note: Callable[[str], None],
        openers: Mapping[str, Opener] = OPENERS,
    ) -> None:
        """Starts the run in each tracker, or continues it; one that fails is left out.

        Args:
            names: of the trackers.
            folder: the run's.
            options: of the run, flat.
            note: prints a sentence for the user.
            openers: start a run in each tracker, by name.
        """
        self._note = note
        self._lines: list[_Line] = []
        ids = read_ids(folder)
        for name in dict.fromkeys(names):
            try:
                tracker = openers[name](folder, ids.get(name, ""), options)
                if ids.get(name) != tracker.id:
                    ids[name] = tracker.id
                    write_json(folder / TRACKING, ids)
            except Exception as error:  # other people's code may fail in any way
                note(f"{_sentence(name, error)}: it gets no more of this run.")
            else:
                self._lines.append(_Line(name, tracker))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Hands on the numbers of a log line, without what was not measured."""
        measured = {name: value for name, value in numbers.items() if value == value}
        self._all(lambda tracker: tracker.log(step, measured))

    def show(self, step: int, pictures: Pictures) -> None:
        """Hands on pictures by name."""
        self._all(lambda tracker: tracker.show(step, pictures))

    def film(self, step: int, path: Path) -> None:
        """Hands on a film."""
        self._all(lambda tracker: tracker.film(step, path))

    def _all(self, task: Callable[[Tracker], None]) -> None:
        for line in self._lines:
            line.put(task)
        self._warn()

    def _warn(self) -> None:
        for line in self._lines:
            if line.trouble:
                self._note(f"{line.trouble}: it gets no more of this run.")
        self._lines = [line for line in self._lines if not line.trouble]

    def close(self, patience: float = PATIENCE) -> None:
        """Sends the rest.

        Args:
            patience: seconds to wait for each tracker.
        """
        for line in self._lines:
            line.close(patience)
        self._warn()
        self._lines = []


class _Line:
    """Hands everything to one tracker in a thread, so that training does not wait for it."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.trouble = ""
        """What went wrong, once something has."""
        self._name, self._tracker = name, tracker
        self._tasks: Queue[Callable[[Tracker], None] | None] = Queue(MOST_WAITING)
        # A daemon: a tracker that hangs does not keep the process alive.
        self._thread = Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def put(self, task: Callable[[Tracker], None]) -> None:
        if not self.trouble:
            try:
                self._tasks.put_nowait(task)
            except Full:
                self.trouble = f"{self._name} does not keep up"

    def _work(self) -> None:
        for task in iter(self._tasks.get, None):
            try:
                task(self._tracker)
            except Exception as error:  # other people's code may fail in any way
                self.trouble = self.trouble or _sentence(self._name, error)
            if self.trouble:
                return

    def close(self, patience: float) -> None:
        self.put(lambda tracker: tracker.close())
        try:
            self._tasks.put(None, timeout=patience)
        except Full:
            return
        self._thread.join(patience)
        if self._thread.is_alive():
            self.trouble = f"{self._name} has not taken all within {patience:g} seconds"


@contextmanager
def continued(folder: Path, note: Callable[[str], None]) -> Iterator[Trackers]:
    """Opens the trackers that know a run already, for what is made from it afterwards.

    Args:
        folder: the run's; where it was not tracked, nothing is opened.
        note: prints a sentence for the user.
    """
    trackers = Trackers(tuple(read_ids(folder)), folder, {}, note)
    try:
        yield trackers
    finally:
        trackers.close()


def read_ids(folder: Path) -> dict[str, str]:
    """The ids of a run in its trackers, by their names; none where it is not tracked."""
    try:
        content = json.loads((folder / TRACKING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(each) for name, each in content.items()}


def _sentence(name: str, error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{name} fails ({type(error).__name__}{f': {text}' if text else ''})"
