"""Searches values by trials that Optuna proposes; a trial is one combination with all its seeds.

Optuna (https://optuna.org) chooses values by its tree-structured Parzen estimator, and its median
pruner ends trials that are worse than the others were at the same step.  It keeps its journal in
the study's folder, so that a search goes on where it was.  The runs are those of any study.
"""

import csv
import json
import math
import re
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from agents.logs.report import EVALUATIONS_FILE, METRICS_FILE
from agents.runtime.checkpoint import write_atomically
from configs.errors import UsageError
from configs.grid import CHOOSING, FIXED, Planned, applicable, expand, option_of, spelt_out
from configs.numbers import whole_number
from configs.study import Axes
from experiments.running.folder import PRUNED, Grid, Search, Study
from experiments.running.watch import Row, Watch
from experiments.running.worker import TrainingJob

JOURNAL, TRIALS = "search.journal", "trials.csv"
RANGE = re.compile(r"([-+]?[\d.][\d_.e+-]*?)\.\.([-+]?[\d.][\d_.e+-]*)(:log)?", re.IGNORECASE)
AXES, ENDED = "axes", ("done", "failed", "pruned")
LOOK_SECONDS = 1.0
"""Between two looks at the logs of the runs."""
DIGITS = 4
"""Significant digits of a proposed number, so that names and commands can be read."""


@dataclass(frozen=True)
class Range:
    """The values that a number may have, ends included."""

    low: float
    high: float
    log: bool
    whole: bool

    def text(self, value: float) -> str:
        """A value as it is typed."""
        return str(int(value)) if self.whole else f"{value:.{DIGITS}g}"


def is_range(word: str) -> bool:
    """Whether a value on the command line is a range, as 1e-4..1e-2:log or 8..64."""
    return RANGE.fullmatch(word) is not None


def ranges(axes: Axes) -> dict[str, Range]:
    """The ranges of a search, by flag.

    Raises:
        UsageError: there is none, or an option cannot have one.
    """
    found = {}
    for flag, words in axes.items():
        matches = [RANGE.fullmatch(word) for word in words]
        if not any(matches):
            continue
        match = matches[0]
        if len(words) > 1 or match is None:
            raise UsageError(f"--{flag} has a range and other values: give the range alone.")
        option = None if flag in (*CHOOSING, *FIXED, "seed") else option_of(axes, flag)
        if option is None or option.kind not in (int, float) or not option.matters:
            raise UsageError(f"--{flag} {words[0]}: only numbers that matter to a run take ranges.")
        found[flag] = _range(f"--{flag} {words[0]}", match, option.kind is int)
    if not found and not any(len(words) > 1 for flag, words in axes.items() if flag != "seed"):
        raise UsageError(
            "--search has nothing to search: give a range, as --learning-rate 1e-4..1e-2:log, or "
            "several values of a flag."
        )
    return found


def _range(said: str, match: re.Match[str], whole: bool) -> Range:
    try:
        low, high = (whole_number(text) if whole else float(text) for text in match.group(1, 2))
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise UsageError(f"{said}: the ends of the range must be {kind}.") from error
    if not -math.inf < low < high < math.inf:
        raise UsageError(f"{said}: the first end must be below the second one.")
    if match[3] and low <= 0:
        raise UsageError(f"{said}: a range with :log must begin above 0.")
    return Range(low, high, bool(match[3]), whole)


def ends(search: Search, pins: Mapping[str, str]) -> list[Planned]:
    """Runs at both ends of all ranges, to check before a search starts what may be proposed.

    Args:
        search: what is searched.
        pins: as `expand` takes them.

    Raises:
        UsageError: a run cannot be as the search would have it.
    """
    found = ranges(search.axes)
    sides = [
        {flag: (each.text(value),) for flag, each, value in side}
        for side in (
            [(flag, each, each.low) for flag, each in found.items()],
            [(flag, each, each.high) for flag, each in found.items()],
        )
    ]
    return [run for side in sides for run in expand({**search.axes, **side}, pins, found)]


@dataclass
class Trial:
    """A trial that has not ended."""

    asked: Any
    """Optuna's."""
    names: tuple[str, ...]
    """Of its runs."""
    reported: set[int]
    """At which points of the logs Optuna knows its value."""


class Trials:
    """The runs of a search, in the order in which they are proposed."""

    def __init__(self, study: Study, home: str, slots: int, watch: Watch) -> None:
        """Opens the journal, and takes up the trials that had not ended.

        Args:
            study: which is a search.
            home: the folder in which `study.py` was started.
            slots: how many runs are trained at a time.
            watch: shows how far they are.

        Raises:
            UsageError: Optuna is not installed.
        """
        assert study.search is not None
        self.study, self._home, self._slots = study, home, slots
        self.search = replace(study.search, axes=spelt_out(study.search.axes))
        self._ranges = ranges(self.search.axes)
        self._watch, self._rows = watch, watch.progress.rows
        self._optuna = installed()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._asked = self._open()
        self._queue, self._started = deque[str](), set[str]()
        self._active: list[Trial] = []
        self._looked_at = 0.0
        self._take_up()

    def _open(self) -> Any:
        """The search as Optuna knows it."""
        optuna, path = self._optuna, self.study.folder / JOURNAL
        # The folder is locked, so a lock on the journal is that of a program that was killed.
        path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(path))
        )
        known = optuna.create_study(
            storage=storage, study_name="study", direction="maximize", load_if_exists=True
        )
        # Another program must not propose again what the first one did.
        seed = whole_number(self.search.axes.get("seed", ("1",))[0]) + len(known.trials)
        known.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        pruners = optuna.pruners
        known.pruner = pruners.MedianPruner() if self.search.prune else pruners.NopPruner()
        return known

    def _take_up(self) -> None:
        state = self._optuna.trial.TrialState
        for known in self._asked.get_trials(deepcopy=False):
            axes = known.user_attrs.get(AXES)
            if axes is None:
                if known.state == state.RUNNING:  # killed before its runs were known
                    self._asked.tell(known.number, state=state.FAIL)
                continue
            if known.state not in (state.RUNNING, state.PRUNED):
                continue
            runs = self._runs({flag: tuple(words) for flag, words in axes.items()})
            if known.state == state.PRUNED:
                self._mark(run.name for run in runs)
            else:
                asked = self._optuna.trial.Trial(self._asked, known._trial_id)
                self._begin(asked, runs, set(known.intermediate_values))

    @property
    def more(self) -> bool:
        """Whether there are runs to come."""
        return bool(self._queue or self._active) or self._left > 0

    @property
    def _left(self) -> int:
        trials = self._asked.get_trials(deepcopy=False)
        return self.search.trials - sum(AXES in trial.user_attrs for trial in trials)

    def take(self, count: int) -> list[TrainingJob]:
        """The next runs; proposes trials where too few are known.

        Args:
            count: how many, at most.
        """
        count = min(count, self._slots - len(self._started))
        while len(self._queue) < count and self._left > 0:
            self._propose()
        names = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        self._started |= set(names)
        return [
            TrainingJob.of(self._rows[name].run, self.study.folder, self._home) for name in names
        ]

    def ended(self, name: str) -> None:
        """Takes note that a run has ended for good."""
        self._started.discard(name)
        if self._rows[name].state == "pruned":
            self._leave_mark(name)
        self._settle()

    def give_up(self) -> Collection[str]:
        """The runs that are not worth going on with."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return ()
        self._looked_at = time.monotonic()
        given_up: set[str] = set()
        for trial in list(self._active):
            if self._hopeless(trial):
                self._tell(trial, state=self._optuna.trial.TrialState.PRUNED)
                given_up |= self._mark(trial.names)
        self._settle()
        return given_up & self._started

    def _propose(self) -> None:
        asked = self._asked.ask()
        values = {flag: asked.suggest_categorical(flag, words) for flag, words in self._choices()}
        axes = applicable({**self.search.axes, **{flag: (word,) for flag, word in values.items()}})
        chosen = dict(axes)
        for flag, each in self._ranges.items():
            if flag in axes:
                suggest = asked.suggest_int if each.whole else asked.suggest_float
                low, high = (int(each.low), int(each.high)) if each.whole else (each.low, each.high)
                chosen[flag] = (each.text(suggest(flag, low, high, log=each.log)),)
        asked.set_user_attr(AXES, chosen)
        try:
            runs = self._runs(chosen)
        except UsageError as error:
            self._watch.note(f"trial {asked.number} cannot be: {error}")
            self._asked.tell(asked.number, state=self._optuna.trial.TrialState.FAIL)
            return
        self.study = self.study.with_grid(self._grid(chosen))
        self.study.save()
        self._begin(asked, runs, set())

    def _choices(self) -> list[tuple[str, Sequence[str]]]:
        several = [flag for flag, words in self.search.axes.items() if len(words) > 1]
        # Those that choose components come first: which others apply depends on them.
        ordered = sorted(several, key=lambda flag: flag not in CHOOSING)
        return [(flag, self.search.axes[flag]) for flag in ordered if flag != "seed"]

    def _grid(self, axes: Axes) -> Grid:
        return Grid(axes, tuple(sorted({*self._ranges, *(flag for flag, _ in self._choices())})))

    def _runs(self, axes: Axes) -> list[Planned]:
        """The runs of a trial, by the names that they have among those of all trials."""
        grid = self._grid(axes)
        own = {repr(run.config) for run in replace(self.study, grids=(grid,)).runs()}
        return [run for run in self.study.with_grid(grid).runs() if repr(run.config) in own]

    def _begin(self, asked: Any, runs: Sequence[Planned], reported: set[int]) -> None:
        for run in runs:
            row = self._rows.setdefault(run.name, Row(run))
            if row.state == "waiting" and run.name not in self._queue:
                self._queue.append(run.name)
        self._active.append(Trial(asked, tuple(run.name for run in runs), reported))
        self._watch.progress.to_come = max(0, self._left) * len(runs)
        self._settle()

    def _hopeless(self, trial: Trial) -> bool:
        """Tells Optuna how far a trial is; whether the pruner gives it up."""
        logs = [self._log(name) for name in trial.names]
        for point in sorted(set.intersection(*map(set, logs)) - trial.reported):
            trial.asked.report(fmean(log[point] for log in logs), point)
            trial.reported.add(point)
            if trial.asked.should_prune():
                return True
        return False

    def _log(self, name: str) -> dict[int, float]:
        """Mean returns of a run by the interval of its log: of its evaluations, if it has any."""
        run = self._rows[name].run.config.run
        file, column, every = METRICS_FILE, "return", run.log_interval
        if run.eval_every:
            file, column, every = EVALUATIONS_FILE, "mean", run.eval_every
        try:
            with (self.study.folder / name / file).open(encoding="utf-8", newline="") as table:
                rows = [(row["step"], row[column]) for row in csv.DictReader(table)]
            return {int(step) // every: float(value) for step, value in rows if step and value}
        except (OSError, KeyError, ValueError):  # not begun, or a line is being written
            return {}

    def _mark(self, names: Iterable[str]) -> set[str]:
        """Marks runs that will not be trained to their end; returns their names."""
        marked = {name for name in names if self._rows[name].state not in ("done", "failed")}
        for name in marked:
            self._rows[name].state = "pruned"
            if name in self._queue:
                self._queue.remove(name)
            self._leave_mark(name)
        return marked

    def _leave_mark(self, name: str) -> None:
        # A run that has only just been started makes its folder itself.
        if (self.study.folder / name).is_dir():
            (self.study.folder / name / PRUNED).touch()

    def _settle(self) -> None:
        """Tells Optuna of the trials whose runs have all ended."""
        state = self._optuna.trial.TrialState
        for trial in list(self._active):
            states = {self._rows[name].state for name in trial.names}
            if not states <= set(ENDED):
                continue
            if "failed" in states:
                self._tell(trial, state=state.FAIL)
            elif "pruned" in states:
                self._tell(trial, state=state.PRUNED)
            else:
                logs = [self._log(name) for name in trial.names]
                if all(logs):
                    self._tell(trial, values=fmean(log[max(log)] for log in logs))
                else:
                    self._watch.note(f"trial {trial.asked.number} has no finished episode.")
                    self._tell(trial, state=state.FAIL)

    def _tell(self, trial: Trial, **result: Any) -> None:
        if trial in self._active:
            self._active.remove(trial)
            self._asked.tell(trial.asked.number, **result)
            self._write()

    def _write(self) -> None:
        """Writes the table of all trials."""
        flags = [*(flag for flag, _ in self._choices()), *self._ranges]
        lines = [",".join(("trial", "state", "value", *flags))]
        for trial in self._asked.get_trials(deepcopy=False):
            axes = trial.user_attrs.get(AXES, {})
            value = "" if trial.value is None else f"{trial.value:.5g}"
            cells = (json.dumps(axes[flag][0]) if flag in axes else "" for flag in flags)
            words = [str(trial.number), trial.state.name.lower(), value, *cells]
            lines.append(",".join(words))
        write_atomically(self.study.folder / TRIALS, ("\n".join(lines) + "\n").encode())

    def best(self) -> str:
        """A sentence on the best trial so far; empty if none has ended."""
        trials = [trial for trial in self._asked.get_trials(deepcopy=False) if trial.values]
        trials = [trial for trial in trials if trial.state.name == "COMPLETE"]
        if not trials:
            return ""
        best = max(trials, key=lambda trial: trial.value)
        axes = best.user_attrs[AXES]
        flags = [*(flag for flag, _ in self._choices()), *self._ranges]
        said = " ".join(f"--{flag} {axes[flag][0]}" for flag in flags if flag in axes)
        return (
            f"Best of {len(trials)} trials that ended: number {best.number} with {said}, which "
            f"returned {best.value:.4g}."
        )


def installed() -> Any:
    """The library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "--search optuna needs Optuna, which is not installed: pip install 'auxgate[search]'."
        ) from error
    return optuna
