"""What trackers get, that they never disturb a run, and the real ones where they are installed."""

import json
import math
import sqlite3
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

from agents.logs.tracking import TRACKING, Trackers, check_installed, continued, read_ids
from gridworld.options import OptionError

PICTURE = np.full((2, 3, 3), 7, dtype=np.uint8)


class Recorder:
    """A tracker that keeps what it gets."""

    def __init__(self, folder, known, options):
        self.id = known or f"new-{folder.name}"
        self.options, self.got = options, []

    def log(self, step, numbers):
        self.got.append((step, dict(numbers)))

    def show(self, step, pictures):
        self.got.append((step, sorted(pictures)))

    def film(self, step, path):
        self.got.append((step, path.name))

    def close(self):
        self.got.append("closed")


@pytest.fixture
def opened():
    """The recorders that were opened."""
    return []


@pytest.fixture
def said():
    """The sentences for the user."""
    return []


@pytest.fixture
def track(tmp_path, opened, said):
    """Opens the trackers of a run in the test's folder."""

    def track(*kinds):
        def opener(kind):
            def open_one(*arguments):
                opened.append(kind(*arguments))
                return opened[-1]

            return open_one

        openers = {kind.__name__: opener(kind) for kind in kinds}
        return Trackers(tuple(openers), tmp_path, {"env": "Catch"}, said.append, openers)

    return track


def test_a_tracker_gets_options_numbers_pictures_and_films_in_order(track, opened, said, tmp_path):
    trackers = track(Recorder)
    trackers.log(10, {"return": 1.5, "entropy": math.nan})
    trackers.show(10, {"cosines": PICTURE})
    trackers.film(20, tmp_path / "film.gif")
    trackers.close()
    [recorder] = opened
    assert recorder.options == {"env": "Catch"}
    assert recorder.got == [(10, {"return": 1.5}), (10, ["cosines"]), (20, "film.gif"), "closed"]
    assert said == []


def test_a_resumed_run_goes_on_under_its_id(track, opened, tmp_path):
    track(Recorder).close()
    assert read_ids(tmp_path) == {"Recorder": f"new-{tmp_path.name}"}
    (tmp_path / TRACKING).write_text('{"Recorder": "known"}')
    track(Recorder).close()
    assert opened[-1].id == "known"


def test_a_tracker_that_cannot_be_opened_is_one_warning_and_the_others_work(track, opened, said):
    class Unreachable(Recorder):
        def __init__(self, *arguments):
            raise RuntimeError("no\nnetwork.")

    trackers = track(Unreachable, Recorder)
    trackers.log(10, {"return": 1.0})
    trackers.close()
    assert said == ["Unreachable fails (RuntimeError: no network): it gets no more of this run."]
    assert opened[0].got == [(10, {"return": 1.0}), "closed"]


def test_a_tracker_that_fails_later_is_one_warning(track, opened, said):
    class Broken(Recorder):
        def log(self, step, numbers):
            raise OSError("gone")

    trackers = track(Broken, Recorder)
    for step in range(1, 6):
        trackers.log(step, {"return": 1.0})
    trackers.close()
    assert said == ["Broken fails (OSError: gone): it gets no more of this run."]
    assert opened[1].got == [*((step, {"return": 1.0}) for step in range(1, 6)), "closed"]


def test_a_run_does_not_wait_for_a_tracker_that_hangs(track, said):
    released = threading.Event()

    class Hanging(Recorder):
        def log(self, step, numbers):
            released.wait()

    trackers = track(Hanging)
    began = time.monotonic()
    for step in range(1_500):
        trackers.log(step, {})
    assert said == ["Hanging does not keep up: it gets no more of this run."]
    trackers.close()
    again = track(Hanging)
    again.log(1, {})
    again.close(patience=0.1)
    assert said[1:] == [
        "Hanging has not taken all within 0.1 seconds: it gets no more of this run."
    ]
    assert time.monotonic() - began < 5
    released.set()


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    # W&B itself leaves such folders, which are importable without being the package.
    (tmp_path / "nowhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError) as refused:
        check_installed(("json", "nowhere"))
    assert str(refused.value) == (
        "track nowhere needs a package that is not installed: pip install nowhere, or drop it."
    )


def test_what_is_made_afterwards_of_an_untracked_run_opens_nothing(tmp_path, said):
    with continued(tmp_path, said.append) as trackers:
        trackers.film(10, tmp_path / "film.gif")
    assert (list(tmp_path.iterdir()), said) == ([], [])


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """All trackers keep their data in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def log_twice(name, folder, said):
    """Tracks two points of a run, then a third one after a resume; returns the id."""
    folder.mkdir()
    for steps in ((10, 20), (30,)):
        trackers = Trackers((name,), folder, {"env": "Catch", "seed": 3}, said.append)
        for step in steps:
            trackers.log(step, {"return": step / 10, "inverse/cosine": math.nan})
        trackers.show(steps[-1], {"inverse/picture": PICTURE})
        trackers.close()
    assert said == []
    return read_ids(folder)[name]


@needs("wandb")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_both_parts_of_a_resumed_run_under_one_id(offline, tmp_path, said):
    its_id = log_twice("wandb", tmp_path / "run", said)
    parts = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{its_id}"))
    assert len(parts) in (1, 2)  # one where both began within a second
    assert all(list(part.glob("*.wandb")) for part in parts)


@needs("mlflow")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_with_all_points_of_a_resumed_run(offline, tmp_path, said):
    from mlflow.tracking import MlflowClient

    its_id = log_twice("mlflow", tmp_path / "run", said)
    client = MlflowClient()
    points = client.get_metric_history(its_id, "return")
    assert [(point.step, point.value) for point in points] == [(10, 1.0), (20, 2.0), (30, 3.0)]
    run = client.get_run(its_id)
    assert run.data.params == {"env": "Catch", "seed": "3"}
    assert run.info.status == "FINISHED"


@needs("trackio")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_has_one_run_with_all_points_of_a_resumed_run(offline, tmp_path, said):
    import trackio.sqlite_storage as storage

    its_id = log_twice("trackio", tmp_path / "run", said)
    [database] = [path for path in storage.TRACKIO_DIR.glob("*.db") if "auxgate" in path.name]
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select step, metrics from metrics where run_name = ? order by step", (its_id,)
        ).fetchall()
    found = [(step, json.loads(text)) for step, text in rows]
    assert [(step, each["return"]) for step, each in found if "return" in each] == [
        (10, 1.0),
        (20, 2.0),
        (30, 3.0),
    ]
