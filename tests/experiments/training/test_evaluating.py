"""Evaluations while training: they disturb nothing, survive a kill, and keep the best policy."""

import csv
import random
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.logs.report import NoReport, Report
from agents.runtime.checkpoint import flatten, load_checkpoint, load_tensors, save_tensors
from configs.cli import parse, parse_evaluate
from configs.errors import UsageError
from experiments.evaluation.command import evaluate
from experiments.training import evaluating
from experiments.training.command import main
from experiments.training.evaluating import SEED, Evaluator, last_step, untouched
from experiments.training.hardware import StopRequest
from experiments.training.trainer import DONE, STOPPED, Trainer, prepare, start
from tests.experiments.sessions import among

# Ten updates of 12 steps; evaluations after steps 36, 60, 96 and 120.
HOST = "--device cpu --threads 1 --precision fp32"
CATCH = f"--env Catch --env.rows 4 --num-envs 3 --unroll-length 4 --steps 120 {HOST}"
EVERY = "--eval-every 30 --eval-episodes 8"
STEPS = [36, 60, 96, 120]
WORLDS = (
    "--env Gridworld --env.num-worlds 4 --env.height 6 --env.width 7 --env.max-episode-steps 20 "
    f"--num-envs 3 --unroll-length 4 --steps 48 --core gru --pipeline {HOST}"
)
TIMES = ("seconds", "share", "sps", "environment", "acting", "learning")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(line, folder="run", code=DONE):
    assert main([*line.split(), "--run-dir", folder]) == code


def rows(path):
    """A table without what depends on the clock."""
    with open(path, encoding="utf-8") as file:
        return [
            {name: cell for name, cell in row.items() if name not in TIMES}
            for row in csv.DictReader(file)
        ]


def state(folder):
    tensors, content = flatten(load_checkpoint(folder / "checkpoints").state)
    return {name: tensor.tolist() for name, tensor in tensors.items()}, content


@pytest.mark.parametrize(
    "line",
    [
        f"{CATCH} --aux inverse --log-steps 1",
        f"{WORLDS} --log-steps 1",
        "--env CartPole-v1 --algo a2c --num-envs 2 --unroll-length 4 --steps 120 --log-steps 1 "
        f"{HOST}",
    ],
    ids=["a head", "a recurrent pipeline", "gym"],
)
def test_a_run_is_bit_for_bit_the_same_with_and_without_evaluations(line, tmp_path):
    train(line, "without")
    train(f"{line} --eval-every 30 --eval-episodes 3", "with")
    assert rows("with/metrics.csv") == rows("without/metrics.csv")
    assert state(tmp_path / "with") == state(tmp_path / "without")
    assert (tmp_path / "with/evaluations.csv").is_file()
    assert not (tmp_path / "without/evaluations.csv").exists()
    assert not (tmp_path / "without/best.safetensors").exists()


def test_global_generators_and_threads_are_left_as_they_were():
    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item(), torch.get_num_threads()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [numbers(), numbers()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = numbers()
    with untouched(torch.device("cpu")):
        inside = numbers()
    assert [first, numbers()] == expected
    with untouched(torch.device("cpu")):
        assert numbers() == inside


def test_evaluations_come_at_their_steps_and_the_best_is_the_first_with_the_highest_mean():
    train(f"{CATCH} {EVERY} --learning-rate 0.05")
    table = rows("run/evaluations.csv")
    assert [int(row["step"]) for row in table] == STEPS
    means = [float(row["mean"]) for row in table]
    assert len(set(means)) > 1, "the policies should differ"
    assert [float(row["best"]) for row in table] == list(np.maximum.accumulate(means))
    for row in table:
        assert float(row["interval_low"]) <= float(row["mean"]) <= float(row["interval_high"])
        assert (row["episodes"], row["unfinished"], row["length"]) == ("8", "0", "3")
    card = load_tensors(Path("run/best.safetensors"))[1]
    assert card["steps"] == STEPS[int(np.argmax(means))]
    assert card["evaluation"]["mean"] == max(means)
    # The last policy's card is as before.
    assert "evaluation" not in load_tensors(Path("run/policy.safetensors"))[1]


def test_the_best_policy_scores_in_evaluate_what_it_scored_in_training_and_can_teach(capsys):
    train(f"{CATCH} {EVERY}")
    card = load_tensors(Path("run/best.safetensors"))[1]
    line = f"run --policy best --episodes 8 --seed {SEED} --device cpu --precision fp32"
    (result,) = evaluate(parse_evaluate(line.split()))
    assert result.scores.mean == card["evaluation"]["mean"]
    assert result.trained_steps == card["steps"]
    assert Path("run/evaluation-best.json").is_file()
    assert not Path("run/evaluation.json").exists()
    best = f"Best evaluation {result.scores.mean:,.2f} at step {card['steps']:,}, policy in "
    assert f"{best}run/best.safetensors." in capsys.readouterr().out
    train(f"{CATCH} --aux distill --teacher run/best.safetensors", "student")


def test_an_episode_that_is_too_long_is_cut_and_a_sentence_says_so(capsys):
    train(f"{CATCH} {EVERY} --eval-step-limit 2")
    said = capsys.readouterr().out
    assert "8 of them had not ended after 2 steps (--eval-step-limit) and count with" in said
    assert {row["unfinished"] for row in rows("run/evaluations.csv")} == {"8"}


class KilledError(Exception):
    """Not caught by the program."""


def killed_at(step):
    """A trainer whose run dies when it has played the evaluation at `step`."""

    class Dying(Report):
        def evaluated(self, at, numbers):
            if at == step:
                raise KilledError
            super().evaluated(at, numbers)

    def sink(run):
        return Dying(run.folder, run.config.run.steps, {}, run.session.learner.steps)

    return lambda run: Trainer(run, sink)


@pytest.mark.parametrize("step", [36, 96])
def test_a_run_that_is_killed_goes_on_with_the_same_evaluations_and_the_same_best(step, tmp_path):
    train(f"{CATCH} {EVERY} --learning-rate 0.05", "whole")
    with pytest.raises(KilledError):
        main(f"{CATCH} {EVERY} --learning-rate 0.05 --run-dir run".split(), trainer=killed_at(step))
    assert main(["--resume", "run"]) == DONE
    assert rows("run/evaluations.csv") == rows("whole/evaluations.csv")
    assert state(tmp_path / "run") == state(tmp_path / "whole")
    best = [tmp_path / folder / "best.safetensors" for folder in ("run", "whole")]
    assert best[0].read_bytes() == best[1].read_bytes()


class StopInEvaluation(StopRequest):
    """Is asked once after each of three updates; the fourth time is within the evaluation."""

    asked = 0

    @property
    def requested(self):
        self.asked += 1
        return self.asked > 4

    @requested.setter
    def requested(self, value):
        pass


def test_an_evaluation_that_is_interrupted_is_made_when_the_run_goes_on(capsys):
    train(f"{CATCH} {EVERY}", "whole")
    run = start(parse(f"{CATCH} {EVERY} --run-dir run".split()))
    trainer = Trainer(run, stop=StopInEvaluation)
    assert trainer.train() == STOPPED
    assert trainer.learner.steps == 36
    assert "The evaluation at step 36 was stopped" in capsys.readouterr().out
    assert not Path("run/evaluations.csv").exists()
    assert main(["--resume", "run"]) == DONE
    assert rows("run/evaluations.csv") == rows("whole/evaluations.csv")


def test_a_best_policy_from_beyond_the_checkpoint_stays_until_another_is_better():
    train(f"{CATCH} {EVERY}")
    # The last two checkpoints are lost.
    for path in sorted(Path("run/checkpoints").iterdir())[1:]:
        path.unlink()
    best = Path("run/best.safetensors")
    tensors, card = load_tensors(best)
    changed = card | {"steps": 120, "evaluation": card["evaluation"] | {"mean": 2.0}}
    save_tensors(best, tensors, changed)
    run = prepare(["--resume", "run"])
    notes = []

    class Sink(NoReport):
        def note(self, text):
            notes.append(text)

    assert Trainer(run, lambda run: Sink()).train() == DONE
    assert any("best.safetensors is of step 120, which the run had reached" in n for n in notes)
    assert load_tensors(best)[1] == changed


def spoil_the_first(monkeypatch, bad):
    """Makes a return of the first evaluation NaN or infinite."""
    play, calls = evaluating.play, []

    def spoilt(*arguments, **named):
        scores = play(*arguments, **named)
        calls.append(None)
        if len(calls) > 1:
            return scores
        return replace(scores, returns=(bad, *scores.returns[1:]))

    monkeypatch.setattr(evaluating, "play", spoilt)


# Quantiles of infinite numbers are NaN, with a warning.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [nan, inf])
def test_a_score_that_is_not_finite_is_not_the_best(bad, monkeypatch):
    spoil_the_first(monkeypatch, bad)
    train(f"{CATCH} {EVERY}")
    table = rows("run/evaluations.csv")
    assert [row["best"] == "" for row in table] == [True, False, False, False]
    means = [float(row["mean"]) for row in table[1:]]
    card = load_tensors(Path("run/best.safetensors"))[1]
    assert card["evaluation"]["mean"] == max(means)
    assert card["steps"] == STEPS[1 + int(np.argmax(means))]


def test_where_no_score_was_finite_there_is_no_best_policy(monkeypatch, capsys):
    spoil_the_first(monkeypatch, nan)
    train(f"{CATCH} --eval-every 120 --eval-episodes 8")
    assert "No evaluation with a finite score was made yet." in capsys.readouterr().out
    assert not Path("run/best.safetensors").exists()


def test_a_best_policy_whose_score_is_not_finite_is_replaced(capsys):
    train(f"{CATCH} {EVERY}")
    best = Path("run/best.safetensors")
    tensors, card = load_tensors(best)
    save_tensors(best, tensors, card | {"evaluation": card["evaluation"] | {"mean": nan}})
    assert main(["--resume", "run", "--steps", "156"]) == DONE
    assert "is nan; the next evaluation replaces it." in capsys.readouterr().out.replace("\n", " ")
    assert load_tensors(best)[1]["steps"] > 120


def test_only_the_process_that_leads_evaluates(tmp_path):
    config = parse(f"{CATCH} --eval-every 1".split())
    for rank, expected in ((0, True), (1, False)):
        session = among(rank, "--eval-every 1")
        session.learner.steps = 7
        assert Evaluator(config, session, tmp_path).due() is expected


def test_the_last_evaluation_is_read_up_to_the_step_of_the_checkpoint(tmp_path):
    path = tmp_path / "evaluations.csv"
    assert last_step(path, 100) == 0
    path.write_text("step,mean\n10,1\n40,2\n90,3\n9")
    assert last_step(path, 100) == 90
    assert last_step(path, 89) == 40


@pytest.mark.parametrize("option", ["--eval-episodes 5", "--eval-step-limit 5"])
def test_options_of_evaluations_need_evaluations(option, capsys):
    assert main(f"{CATCH} {option} --run-dir run".split()) == 2
    flag = option.split()[0]
    assert f"{flag} has no effect without --eval-every: add that" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_run_that_was_not_evaluated_has_no_best_policy(capsys):
    train(CATCH)
    with pytest.raises(UsageError, match=r"--policy best needs run/best.safetensors, which is not"):
        evaluate(parse_evaluate(["run", "--policy", "best"]))
