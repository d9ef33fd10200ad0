import io
import signal

import pytest
from rich.console import Console

from experiments.running import command, worker
from experiments.running.watch import Watch, look
from experiments.running.worker import CRASHED, TrainingJob
from experiments.training.trainer import DIVERGED, DONE


class Scripted:
    """Ends every task at once, with the exit codes that a test gives; trains nothing."""

    def __init__(self, codes, trained, slots=2):
        self.codes = {name: list(of_run) for name, of_run in codes.items()}
        self.trained, self.slots, self.started, self.running = trained, slots, [], []

    @property
    def free(self):
        return self.slots - len(self.running)

    @property
    def busy(self):
        return len(self.running)

    def start(self, tasks):
        assert len(tasks) <= self.free
        self.running += tasks
        self.started += [task.name for task in tasks]

    def wait(self, seconds):
        task = self.running.pop(0)
        code = self.codes[task.name].pop(0) if self.codes.get(task.name) else DONE
        if code == DONE:
            self.trained(task.folder, (task.steps,), task.steps)
        return [(task.name, code)]

    def stop(self, names=None):
        self.stopped = True


@pytest.fixture
def conducted(study, trained):
    """Conducts the study with a scripted backend; returns it, the rows and what was printed."""

    def conducted(codes, retries=1):
        made = study()
        made.save()
        runs = made.runs()
        tasks = [TrainingJob(".", str(made.folder), run.name, run.words, 100) for run in runs]
        backend, text = Scripted(codes, trained), io.StringIO()
        watch = Watch(look(made.folder, runs, 2), Console(file=text, width=200))
        stopped = command.conduct(backend, command.Queue(tasks), watch, retries)
        return backend, watch.progress.rows, text.getvalue(), stopped

    return conducted


FIRST, SECOND = "Catch-main-s1", "Catch-main-s2"


def test_a_run_that_fails_is_tried_once_more_and_the_others_go_on(conducted):
    backend, rows, text, stopped = conducted({FIRST: [CRASHED, DONE], SECOND: [-9, CRASHED]})
    assert backend.started.count(FIRST) == backend.started.count(SECOND) == 2
    states = [row.state for row in rows.values()]
    assert (states.count("done"), states.count("failed"), stopped) == (3, 1, False)
    assert "its process was ended by signal 9" in text
    assert f"failed: {SECOND}: exit code {CRASHED}" in text


def test_a_loss_that_diverged_is_not_tried_again(conducted):
    backend, rows, _, _ = conducted({FIRST: [DIVERGED]})
    assert backend.started.count(FIRST) == 1
    assert rows[FIRST].state == "failed"


def test_a_run_that_says_done_without_its_last_step_has_failed(conducted, monkeypatch):
    monkeypatch.setattr(command.folders, "is_done", lambda folder, steps: False)
    _, rows, _, _ = conducted({}, retries=0)
    assert {row.state for row in rows.values()} == {"failed"}


def test_a_signal_stops_all_runs_and_leaves_them_to_be_resumed(conducted, monkeypatch):
    # The first wait brings the signal.
    once = iter([signal.SIGINT])
    wait = Scripted.wait

    def interrupted(self, seconds):
        for number in once:
            signal.raise_signal(number)
            return []
        return [(self.running.pop(0).name, 130)]

    monkeypatch.setattr(Scripted, "wait", interrupted)
    backend, rows, text, stopped = conducted({})
    assert wait is not Scripted.wait
    assert stopped
    assert backend.stopped
    assert len(backend.started) == 2
    assert {row.state for row in rows.values()} == {"waiting"}
    assert "Stopping" in text


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--seeds 2 --seed 1", "--seeds 5 stands for --seed 1 2 3 4 5: give one of the two."),
        ("--resume nowhere", "nowhere is not a study's folder: it has no study.json."),
        ("--resume a --output b", "--resume names the study's folder already: drop --output."),
        ("--report", "--report needs the folder of a study: add --resume FOLDER."),
        ("--address x:1", "--address has no effect without --on ray: add it."),
        ("--slurm time", "--slurm has no effect without --on slurm"),
        ("--on slurm --slurm time", "--slurm time must be KEY=VALUE"),
        ("--jobs -1", "--jobs must be 0 or more, not -1."),
        ("--threads", "--threads needs a value."),
        ("--on moon", "--on moon is unknown: choose one of 'local', 'ray', 'slurm'."),
        ("--aux distill", "--aux distill needs a teacher and none is shipped for Catch"),
        (
            "--aux inverse --gate sum --gate.main policy",
            "--gate.main has no effect with --gate sum",
        ),
        ("--num-envs 6 --algo ppo --algo.ppo.minibatches 7", "--algo.ppo.minibatches 7 is more"),
        # What one of the gates, or of the places, cannot do.
        ("--aux spr --gate cosine --gate.at parameters features", "--gate.at features cannot"),
        (
            "--algo ppg --aux inverse --gate cosine rotograd",
            "the auxiliary phase of PPG cannot use the gate RotoGrad",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(line, sentence, refusal):
    assert refusal(line).startswith(f"study.py: {sentence}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--gate cosine significant", "--gate significant is for one task"),
        ("--gate cosine --tasks.heads Catch Pong", "--tasks.heads Pong is no task of this run"),
    ],
)
def test_what_one_of_the_runs_of_several_tasks_cannot_have_is_refused(
    line, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    pair = ["--env", "Catch+Catch(mirrored=True)", "--aux", "inverse"]
    assert command.main([*pair, *line.split()]) == command.MISTAKEN
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_commands_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = "--env Catch --aux none inverse --gate sum cosine --seeds 2 --output here --dry-run"
    assert command.main(line.split()) == DONE
    *commands, end = capsys.readouterr().out.splitlines()
    assert len(commands) == 6
    assert commands[0].startswith("python train.py --env Catch --aux none --device cpu")
    assert commands[0].endswith("--seed 1 --run-dir here/Catch-main-s1")
    assert end.startswith("6 runs of 1,200,000 steps together, 0 done;")
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_path_is_no_utf8_has_a_log(tmp_path, monkeypatch):
    study = tmp_path / "\udcff"
    (study / "logs").mkdir(parents=True)
    monkeypatch.setattr(worker.command, "main", lambda words: print(words[-1]) or DONE)
    monkeypatch.chdir(tmp_path)
    assert TrainingJob(str(tmp_path), str(study), FIRST, (), 100).run() == DONE
    assert r"\udcff" in (study / "logs" / f"{FIRST}.log").read_text("utf-8")
