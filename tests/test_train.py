"""The command as a user meets it: whole runs on Catch, and how they end."""

import re
import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

import agents.algorithms.a2c
from experiments.training.command import main
from experiments.training.trainer import DIVERGED, DONE, STOPPED
from tests import short_runs
from tests.short_runs import SHORT, UPDATE, UPDATES, checkpoints, policy, stop_at, table

made, run, _elsewhere = short_runs.made, short_runs.run, short_runs.elsewhere


def pictures_at(run):
    """The steps at which the cosines were drawn."""
    events = EventAccumulator(str(run), {IMAGES: 0}).Reload()
    return [event.step for event in events.Images("2_cosine/all")]


# --- a run and its end ------------------------------------------------------------------


def test_a_run_leaves_what_the_documents_promise(run):
    assert {re.sub(r"(tfevents)\..*", r"\1", path.name) for path in run.iterdir()} == {
        "config.json",
        "versions.json",
        "events.out.tfevents",
        "metrics.csv",
        "checkpoints",
        "policy.safetensors",
    }
    # The latest three of ten.
    assert [path.stem for path in checkpoints(run)] == [
        f"step-{UPDATE * update:012d}" for update in (8, 9, 10)
    ]
    assert [int(row["step"]) for row in table(run)] == [
        UPDATE * update for update in range(1, UPDATES + 1)
    ]


def test_pictures_come_now_and_then_and_not_twice_after_a_resume(tmp_path):
    heads = "--aux termination multi_horizon --picture-steps 48"
    assert main(f"{SHORT} {heads} --run-dir run".split()) == DONE
    # Every update has its line of the log; the first ones beyond 48 and 96 have a picture.
    assert pictures_at("run") == [48, 96]
    assert main(["--resume", "run", "--steps", "200", "--run-dir", "more"]) == DONE
    assert pictures_at("more") == [48, 96, 144, 192]


def test_a_run_says_where_it_computes_where_it_writes_and_what_comes_next(capsys):
    assert main(f"{SHORT} --run-dir mine".split()) == DONE
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "Computing on cpu (as asked) in fp32 (as asked), 1 CPU thread (as asked)."
    assert lines[1] == "Writing to mine"
    assert lines[-2:] == [
        "Done: 120 steps. Score the policy with:",
        "  python evaluate.py mine",
    ]
    assert said.err == ""


def test_a_gymnasium_run_says_which_torso_it_took(capsys):
    line = "--env FrozenLake-v1 --algo a2c --steps 40 --num-envs 2 --unroll-length 4 --device cpu"
    assert main(f"{line} --run-dir lake --env.kwargs map_name=8x8".split()) == DONE
    assert "The torso is mlp, for observations of 64." in capsys.readouterr().out.splitlines()[0]


def test_a_run_says_at_its_end_how_much_of_each_head_was_let_in(capsys):
    for place in ("parameters", "features"):
        heads = f"--aux termination inverse --gate cosine --gate.at {place}"
        assert main(f"{SHORT} {heads} --run-dir {place}".split()) == DONE
        *_, one, other, _, _ = capsys.readouterr().out.splitlines()
        for line, name in ((one, "termination"), (other, "inverse")):
            pattern = r": \d+ % of its gradient passed, it agreed in \d+ % of the judgements\."
            assert re.fullmatch(name + pattern, line)


def test_the_same_seed_twice_is_the_same_run_and_another_seed_another(made):
    for name, seed in (("again", 1), ("other", 2)):
        assert main(f"{SHORT} --run-dir {name} --seed {seed}".split()) == DONE
    assert policy("again") == policy(made / "run")
    assert table("again") == table(made / "run")
    assert policy("other") != policy(made / "run")


@pytest.mark.parametrize("gate", ["sum", "cosine", "projection --gate.projection.decay 0.9"])
def test_the_same_seed_twice_is_the_same_run_with_a_gated_teacher(gate, made):
    line = f"{SHORT} --aux distill --teacher {made / 'run'} --gate {gate} --run-dir"
    assert main([*line.split(), "one"]) == main([*line.split(), "two"]) == DONE
    assert policy("one") == policy("two")
    assert policy("one") != policy(made / "run")
    assert table("one") == table("two")


# --- a loss that is not finite ----------------------------------------------------------


@pytest.fixture
def poison(monkeypatch):
    """Makes the main loss NaN from the given update on, for so many updates."""

    def poison(first, count=10**9):
        entropy, calls = agents.algorithms.a2c.entropy, []

        def poisoned(logits):
            calls.append(None)
            bad = first < len(calls) <= first + count
            return entropy(logits) * (torch.nan if bad else 1.0)

        monkeypatch.setattr(agents.algorithms.a2c, "entropy", poisoned)

    return poison


def test_a_loss_that_stays_infinite_stops_the_run_with_a_sentence(poison, capsys):
    poison(3)
    assert main(f"{SHORT} --run-dir mine --max-skipped 4".split()) == DIVERGED == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "train.py: the last 4 updates were skipped, because the loss was not fin"
    )
    assert said.endswith("are saved in mine. Try a smaller --learning-rate.\n")
    assert said.count("\n") == 1
    assert [row["skipped"] for row in table("mine")] == ["0", "0", "0", "1", "2", "3", "4"]


def test_the_weights_saved_are_those_before_the_loss_was_infinite(poison, monkeypatch):
    with monkeypatch.context() as context:
        stop_at(context, 2, signal.SIGTERM)  # during the third update, which is finished
        assert main(f"{SHORT} --run-dir before".split()) == STOPPED
    poison(3)
    assert main(f"{SHORT} --run-dir after --max-skipped 4".split()) == DIVERGED
    (before, weights_before), (after, weights_after) = policy("before"), policy("after")
    assert (before["steps"], after["steps"]) == (3 * UPDATE, 7 * UPDATE)
    assert weights_before == weights_after


def test_a_loss_that_is_infinite_once_costs_one_update(poison):
    poison(3, count=1)
    assert main(f"{SHORT} --run-dir mine --max-skipped 2".split()) == DONE
    assert [row["skipped"] for row in table("mine")] == ["0"] * 3 + ["1"] * 7
