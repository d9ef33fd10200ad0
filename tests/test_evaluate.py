"""The command that scores a policy: what it prints, what it writes, and every mistake."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import evaluate
import train
from agents.evaluation import Scores
from agents.files import load_tensors, save_tensors
from configs.evaluate import EvaluateOptions

SHORT = (
    "--env Catch --env.rows 4 --num-envs 2 --unroll-length 4 --steps 8 --device cpu --threads 1 "
    "--precision fp32"
)
QUICK = "--episodes 5 --num-envs 2 --device cpu --precision fp32 --threads 1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    assert train.main(f"{SHORT} --run-dir {folder}".split()) == train.DONE
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A run of Catch of a single update, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, "run"))


def scored(line):
    """What a successful command writes."""
    assert evaluate.main(line.split()) == 0
    words = line.split()
    output = words[words.index("--output") + 1] if "--output" in words else "run/evaluation.json"
    return json.loads(Path(output).read_text())


def refused(line, capsys):
    before = sorted(Path.cwd().rglob("*"))
    assert evaluate.main(line.split()) == 2
    assert sorted(Path.cwd().rglob("*")) == before
    said = capsys.readouterr().err
    assert said.startswith("evaluate.py: ")
    assert said.count("\n") == 1
    return said.removeprefix("evaluate.py: ").removesuffix("\n")


@pytest.mark.usefixtures("run")
def test_the_file_says_what_was_played_how_and_each_score():
    result = scored(f"run {QUICK} --seed 7")
    assert (result["env"], result["protocol"]) == ("Catch", "raw+rows=4")
    assert (result["trained_steps"], result["episodes"], result["seed"]) == (8, 5, 7)
    assert result["precision"] == "fp32"
    assert result["human_normalised"] is None
    assert len(result["returns"]) == len(result["lengths"]) == 5
    assert set(result["returns"]) <= {-1.0, 1.0}
    assert result["lengths"] == [3] * 5  # a ball falls through four rows in three steps
    assert result["mean"] == pytest.approx(sum(result["returns"]) / 5)
    assert result["median"] == sorted(result["returns"])[2]
    low, high = result["interval_95"]
    assert -1 <= low <= result["mean"] <= high <= 1


@pytest.mark.usefixtures("run")
def test_the_score_is_printed_with_its_protocol(capsys):
    result = scored(f"run {QUICK}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Computing on cpu")
    low, high = result["interval_95"]
    assert lines[1] == (
        f"Catch (raw+rows=4 protocol), 5 episodes after 8 steps: mean {result['mean']:.2f} "
        f"(95 % interval {low:.2f} to {high:.2f}), median {result['median']:.2f}."
    )
    assert lines[2] == f"Written to {Path('run', 'evaluation.json')}."


@pytest.mark.usefixtures("run")
def test_the_same_seed_scores_the_same_and_another_seed_otherwise():
    first, again, other = (
        scored(f"run {QUICK} --episodes 20 --seed {seed}".replace("--episodes 5 ", ""))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["returns"] != other["returns"]


@pytest.mark.usefixtures("run")
def test_fewer_episodes_than_environments_are_enough():
    assert len(scored("run --episodes 1 --device cpu")["returns"]) == 1


def test_a_policy_is_scored_from_its_file_or_folder(run, tmp_path):
    shutil.move(run / "policy.safetensors", tmp_path / "mine.safetensors")
    folder = tmp_path / "teacher"
    folder.mkdir()
    shutil.copy(tmp_path / "mine.safetensors", folder / "policy.safetensors")
    scored(f"mine.safetensors {QUICK} --output here.json")
    scored(f"teacher {QUICK} --output there.json")
    assert evaluate.main(["teacher", *QUICK.split()]) == 0
    assert (folder / "evaluation.json").is_file()  # beside the policy, where nothing else is said


def test_a_score_is_human_normalised_where_there_is_a_human():
    # Wang et al. 2016: 1.7 for the random player of Breakout, 30.5 for the human.
    assert evaluate.human_normalised("Breakout", 1.7) == 0
    assert evaluate.human_normalised("Breakout", 30.5) == 1
    assert evaluate.human_normalised("Breakout", 16.1) == pytest.approx(0.5)
    assert evaluate.human_normalised("Catch", 1.0) is None


def test_the_human_normalised_score_is_in_the_summary():
    scores = Scores((10.0, 20.0), (100, 200))
    low, high = scores.interval()
    result = {
        "env": "Breakout",
        "protocol": "baselines",
        "episodes": 2,
        "trained_steps": 10_000_000,
        "mean": scores.mean,
        "median": scores.median,
        "interval_95": [low, high],
        "human_normalised": 0.4618,
    }
    assert evaluate.summary(result) == (
        "Breakout (baselines protocol), 2 episodes after 10,000,000 steps: mean 15.00 "
        "(95 % interval 10.00 to 20.00), median 15.00, human-normalised 46 %."
    )


def test_the_environments_are_closed_whatever_happens(run, monkeypatch):
    closed = []
    monkeypatch.setattr("envs.catch.CatchVecEnv.close", lambda env: closed.append(env.spec.name))
    evaluate.evaluate(EvaluateOptions("run", episodes=1, device="cpu"))
    assert closed == ["Catch"]

    def fail(*_):
        raise ValueError("in the midst")

    monkeypatch.setattr(evaluate, "play_all", fail)
    with pytest.raises(ValueError, match="in the midst"):
        evaluate.evaluate(EvaluateOptions("run", episodes=1, device="cpu"))
    assert closed == ["Catch", "Catch"]


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("", "RUN is missing"),
        ("run --episodes 0", "--episodes must be at least 1"),
        ("run --num-envs -1", "--num-envs must be at least 1"),
        ("run --seed -1", "--seed"),
        ("run --device cuda:99", "--device"),
        ("run --epsiodes 3", "--epsiodes is not an option here: did you mean --episodes?"),
        ("nowhere", "nowhere cannot be played: there is no policy at nowhere"),
        (
            "run/config.json",
            "run/config.json cannot be played: the policy at run/config.json is da",
        ),
    ],
)
def test_a_mistake_is_one_sentence(line, start, capsys):
    assert refused(line, capsys).startswith(start)


def test_a_damaged_policy_is_refused(run, capsys):
    content = (run / "policy.safetensors").read_bytes()
    for damaged in (content[:-3], content[:-3] + bytes(3), b""):
        (run / "policy.safetensors").write_bytes(damaged)
        assert "is damaged or foreign" in refused("run", capsys)


@pytest.mark.parametrize(
    "change",
    [
        {"env": "Unheard"},
        {"env_options": {"unheard": 1}},
        {"env_options": {"rows": 0}},
        {"torso": "unheard"},
        {"torso_options": {"unheard": 1}},
        {"format": "auxgate policy 0"},
        {"unheard": 1},
    ],
    ids=str,
)
def test_a_policy_of_another_version_is_refused(change, run, capsys):
    weights, card = load_tensors(run / "policy.safetensors")
    save_tensors(run / "policy.safetensors", weights, card | change)
    assert refused("run", capsys).startswith("run cannot be played: ")


def test_a_policy_without_its_weights_is_refused(run, capsys):
    weights, card = load_tensors(run / "policy.safetensors")
    save_tensors(run / "policy.safetensors", {"other": torch.zeros(1)}, card)
    assert "is damaged or foreign" in refused("run", capsys)
    del weights["policy.bias"]
    save_tensors(run / "policy.safetensors", weights, card)
    assert "lacks weights" in refused("run", capsys)


@pytest.mark.usefixtures("run")
def test_an_output_that_cannot_be_written_is_refused_with_the_cure(capsys):
    for output in ("nowhere/x.json", "run/config.json/x.json"):
        said = refused(f"run {QUICK} --output {output}", capsys)
        assert said.startswith("the scores cannot be written (N")
        assert said.endswith("choose another file by --output.")


@pytest.mark.usefixtures("run")
def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "play_all", interrupt)
    assert evaluate.main(["run", "--device", "cpu"]) == 130
    assert capsys.readouterr().err == ""
