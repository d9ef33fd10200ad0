"""Searches: what may be searched; and Optuna's trials, with runs that a test makes up."""

import csv
import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from configs.errors import UsageError
from configs.study import own_flags, split
from experiments.running import command
from experiments.running.folder import PRUNED, Search, Study, load
from experiments.running.search import JOURNAL, Trials, ends, is_range, ranges
from experiments.running.watch import Watch, look
from experiments.training.trainer import DONE, STOPPED

PINS = {"device": "cpu", "precision": "fp32", "threads": "1"}
STEPS = 1000


def axes(line):
    return split(f"--env Catch --steps {STEPS} --log-steps 100 {line}".split(), own_flags())[1]


def test_a_range_is_told_from_a_value_and_a_path():
    assert all(map(is_range, ("8..64", "1e-4..1e-2:log", "-1..0.5", ".1..1.")))
    assert not any(map(is_range, ("8", "1e-4", "../teacher", "runs..old", "1..2:lin")))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--learning-rate 1e-4..1e-2", "is a range: add --search optuna --trials N."),
        ("--trials 3", "--trials has no effect without --search optuna: add it."),
        ("--no-prune", "--no-prune has no effect without --search optuna: add it."),
        ("--search optuna", "--search needs the number of its trials"),
        ("--search optuna --trials 3 --seeds 2", "--search has nothing to search"),
        ("--search optuna --trials 3 --discount 1..0.9", "must be below the second one."),
        ("--search optuna --trials 3 --discount 0..0.9:log", "must begin above 0."),
        ("--search optuna --trials 3 --unroll-length 8..9.5", "must be whole numbers."),
        ("--search optuna --trials 3 --discount 0..0.9 1", "give the range alone."),
        ("--search optuna --trials 3 --threads 1..2", "only numbers that matter to a run"),
        ("--search optuna --trials 3 --algo 1..2", "only numbers that matter to a run"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_and_leaves_no_folder(line, sentence, refusal):
    assert sentence in refusal(line)


def test_both_ends_of_every_range_are_checked_before_a_search_starts():
    line = "--aux none inverse --aux.inverse.coefficient 0.1..2:log --unroll-length 8..64"
    found = ends(Search(axes(line), 3, True), PINS)
    lengths = [run.config.run.unroll_length for run in found]
    assert lengths == [8, 8, 64, 64]
    with pytest.raises(UsageError, match="--discount"):
        ends(Search(axes("--discount 0.9..1.5"), 3, True), PINS)
    assert ranges(axes(line))["aux.inverse.coefficient"].text(0.123456) == "0.1235"


class MadeUp:
    """Ends a run once it has logged ten returns, each the highest for a learning rate of 0.01."""

    slots = 2

    def __init__(self, trained, deadly=10**9):
        self.trained, self.deadly, self.running, self.stopped = trained, deadly, {}, []

    @property
    def free(self):
        return self.slots - len(self.running)

    @property
    def busy(self):
        return len(self.running)

    def start(self, tasks):
        for task in tasks:
            rate = float(task.words[task.words.index("--learning-rate") + 1])
            self.running[task.name] = (task, -abs(math.log10(rate) + 2), [])

    def wait(self, seconds):
        self.deadly -= 1
        if self.deadly == 0:
            raise KeyboardInterrupt  # as good as kill -9: nothing is tidied up
        ended = [(name, STOPPED) for name in self.stopped if self.running.pop(name, None)]
        self.stopped = []
        for name, (task, value, rows) in list(self.running.items()):
            rows.append((100 * (len(rows) + 1), value))
            if len(rows) == STEPS // 100:
                self.trained(task.folder, (STEPS,), STEPS)
                ended.append((name, DONE))
                del self.running[name]
            task.folder.mkdir(exist_ok=True, parents=True)
            with (task.folder / "metrics.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("step", "return"), *rows])
        return ended

    def stop(self, names=None):
        self.stopped = list(names or self.running)


@pytest.mark.slow  # Optuna comes with `make slow`
def test_a_search_that_is_killed_goes_on_and_prunes_what_is_worse(trained, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr("experiments.running.search.LOOK_SECONDS", 0)
    what = axes("--learning-rate 1e-4..1e0:log --seed 1 2")
    study = Study(tmp_path / "study", (), PINS, Search(what, 14, True))
    study.save()

    def search(backend):
        known = load(study.folder)
        watch = Watch(look(study.folder, known.runs(), 2), Console(file=io.StringIO()))
        trials = Trials(known, ".", 2, watch)
        assert not command.conduct(backend, trials, watch, 0)
        return trials

    with pytest.raises(KeyboardInterrupt):
        search(MadeUp(trained, deadly=40))
    begun = len(load(study.folder).grids)
    assert 2 < begun < 14
    found = search(MadeUp(trained))
    again = load(study.folder)
    assert len(again.grids) == 14  # no trial is lost, none is proposed twice
    assert len(again.runs()) == 28
    with (study.folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    assert len(rows) == 14
    best = max(
        (row for row in rows if row["state"] == "complete"), key=lambda row: float(row["value"])
    )
    assert f"number {best['trial']} with --learning-rate {best['learning-rate']}" in found.best()
    assert abs(math.log10(float(best["learning-rate"])) + 2) < 1
    marked = {path.parent.name for path in study.folder.glob(f"*/{PRUNED}")}
    pruned = {row["learning-rate"] for row in rows if row["state"] == "pruned"}
    assert marked
    assert all(any(f"={rate}-" in name for rate in pruned) for name in marked)
    assert (study.folder / JOURNAL).is_file()


@pytest.mark.slow  # Optuna comes with `make slow`
def test_trials_whose_values_look_the_same_in_names_have_runs_of_their_own(trained, tmp_path):
    pytest.importorskip("optuna")
    what = axes("--aux distill --learning-rate 0.01 --teacher runs/a/policy runs/b/policy")
    study = Study(tmp_path / "study", (), PINS, Search(what, 8, False))
    study.save()
    watch = Watch(look(study.folder, (), 2), Console(file=io.StringIO()))
    trials = Trials(study, ".", 2, watch)
    assert not command.conduct(MadeUp(trained), trials, watch, 0)
    rows = watch.progress.rows
    teachers = {name: row.run.config.heads["distill"].teacher for name, row in rows.items()}
    assert sorted(teachers.values()) == ["runs/a/policy", "runs/b/policy"]
    assert all((study.folder / name).is_dir() for name in teachers)
    table = (study.folder / "trials.csv").read_text()
    assert "aux.distill.teacher" in table
    assert all(teacher in table for teacher in teachers.values())
    assert "--aux.distill.teacher runs/" in trials.best()

    fewer = replace(load(study.folder), search=Search(what, 4, False))
    assert not Trials(fewer, ".", 2, watch).more, "four more were not asked for"


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1e0", "1k", str(2**63 - 1)])
def test_a_search_takes_every_seed_that_a_run_takes(seed, tmp_path):
    pytest.importorskip("optuna")
    what = axes(f"--seed {seed} --discount 0.9..0.99")
    study = Study(tmp_path / "study", (), PINS, Search(what, 4, False))
    study.save()
    watch = Watch(look(study.folder, (), 2), Console(file=io.StringIO()))
    assert Trials(study, ".", 2, watch).more


def test_a_range_takes_whole_numbers_as_a_run_does():
    assert ranges(axes("--unroll-length 8..1e2"))["unroll-length"].high == 100
