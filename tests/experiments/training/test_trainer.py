"""The trainer with parts of its own: collectors, learners, sinks, stops and callbacks."""

import json

import pytest
import torch

from agents.learning.learner import Learner
from agents.logs.report import NoReport
from agents.rollout.collector import Collector
from configs.cli import ResumeOptions, parse
from configs.errors import UsageError
from experiments.training.build import Parts
from experiments.training.command import main
from experiments.training.hardware import StopRequest
from experiments.training.meter import Every
from experiments.training.trainer import (
    DIVERGED,
    DONE,
    STOPPED,
    Callback,
    Trainer,
    resume,
    set_up,
    start,
)

# Five updates of 12 steps, each with its line of the log.
FLAGS = (
    "--env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --steps 60 --device cpu --threads 1 "
    "--precision fp32 --log-steps 1 --run-dir run"
)


class Notebook(NoReport):
    """A sink that remembers what it is told."""

    def __init__(self):
        self.notes, self.logged, self.drawn = [], [], []

    def note(self, text):
        self.notes.append(text)

    def log(self, progress):
        self.logged.append(progress.step)

    def show(self, step, pictures):
        self.drawn.append(step)


class StopAfter(StopRequest):
    """Requests to stop when it is asked for the third time."""

    asked = 0

    @property
    def requested(self):
        self.asked += 1
        return self.asked >= 3

    @requested.setter
    def requested(self, value):
        pass


def counting(kind, method, calls):
    """A subclass that counts the calls of one method."""

    def counted(self, *arguments):
        calls.append(method)
        return getattr(kind, method)(self, *arguments)

    return type(f"Counting{kind.__name__}", (kind,), {method: counted})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    return start(parse(FLAGS.split()))


def test_a_sink_takes_the_place_of_files_and_terminal(run, capsys):
    notebook = Notebook()
    assert Trainer(run, sink=lambda run: notebook).train() == DONE
    assert notebook.logged == [12, 24, 36, 48, 60]
    # A twentieth of the run is 3 steps, so every line of the log has its pictures.
    assert notebook.drawn == [12, 24, 36, 48, 60]
    assert notebook.notes[-1] == "Writing to run"
    assert not (run.folder / "metrics.csv").exists()
    assert (run.folder / "policy.safetensors").is_file()
    assert capsys.readouterr().out == ""


def test_a_request_to_stop_ends_the_run_after_the_update_and_saves_it(run):
    trainer = Trainer(run, lambda run: Notebook(), StopAfter)
    assert trainer.train() == STOPPED
    assert trainer.learner.steps == 36
    assert not trainer.finished
    assert resume(ResumeOptions("run")).session.learner.steps == 36


def test_callbacks_are_called_after_the_updates_that_pass_their_intervals(run):
    seldom, often = [], []
    callbacks = (
        Callback(30, lambda trainer: seldom.append(trainer.learner.steps)),
        Callback(5, lambda trainer: often.append(trainer.learner.steps)),
    )
    assert Trainer(run, lambda run: Notebook(), callbacks=callbacks).train() == DONE
    assert seldom == [36, 60]
    assert often == [12, 24, 36, 48, 60]


def test_collector_and_learner_are_those_that_were_given():
    calls = []
    collector = counting(Collector, "collect", calls)
    learner = counting(Learner, "update", calls)
    assert main(FLAGS.split(), Parts(collector, learner, variant="counted")) == DONE
    assert calls == ["collect", "update"] * 5
    with open("run/versions.json", encoding="utf-8") as file:
        assert json.load(file)["variant"] == "counted"


def test_a_run_that_is_resumed_gets_its_parts_too():
    assert main(FLAGS.split()) == DONE
    calls = []
    parts = Parts(learner=counting(Learner, "update", calls))
    assert main(["--resume", "run", "--steps", "84"], parts) == DONE
    assert calls == ["update"] * 2


def test_a_subclass_replaces_one_update_and_inherits_the_rest():
    class Twice(Trainer):
        def step(self):
            super().step()
            return super().step()

    assert main([*FLAGS.split(), "--steps", "48"], trainer=Twice) == DONE
    with open("run/metrics.csv", encoding="utf-8") as file:
        assert [line.split(",")[0] for line in file] == ["step", "24", "48"]


def test_the_loop_yields_every_update_and_writes_nothing(run):
    before = sorted(run.folder.rglob("*"))
    trainer, steps = Trainer(run), []
    for scalars in trainer.updates():
        assert scalars["entropy"] > 0
        steps.append(trainer.learner.steps)
    assert steps == [12, 24, 36, 48, 60]
    assert trainer.finished
    assert list(trainer.updates()) == []
    assert sorted(run.folder.rglob("*")) == before


def test_too_many_skipped_updates_end_the_run():
    class Skipping(Learner):
        def update(self, trajectory):
            metrics = super().update(trajectory)
            self.skipped_in_a_row.fill_(2 if self.steps >= 24 else 0)
            return metrics

    run = start(parse([*FLAGS.split(), "--max-skipped", "2"]), Parts(learner=Skipping))
    trainer = Trainer(run, lambda run: Notebook())
    assert trainer.train() == DIVERGED
    assert trainer.learner.steps == 24


def test_an_interval_is_passed_once_for_all_multiples_that_one_step_skips():
    every = Every(10, start=4)
    assert [every.passed(step) for step in (9, 10, 15, 19, 45, 49, 50)] == [
        *(False, True, False, False),
        *(True, False, True),
    ]


def test_initial_weights_do_not_depend_on_how_many_cores_there_are():
    config = parse(
        [
            "--env",
            "Catch",
            "--env.rows",
            "4",
            "--num-envs",
            "2",
            "--device",
            "cpu",
            "--precision",
            "fp32",
        ]
    )
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(set_up(config)[0].learner.agent.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_an_occupied_folder_is_refused_before_anything_is_set_up(tmp_path, monkeypatch):
    occupied = tmp_path / "run"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine")
    never = "experiments.training.trainer.set_up"
    monkeypatch.setattr(never, lambda *_, **__: pytest.fail("set up"))
    with pytest.raises(UsageError, match=r"--run-dir \S+run is not empty and holds no run"):
        start(parse(f"{FLAGS} --run-dir {occupied}".split()))
    assert (occupied / "notes.txt").read_text() == "mine"
