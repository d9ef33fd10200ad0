"""The command that scores policies: what it prints, what it writes, and every mistake."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.runtime.checkpoint import load_tensors, save_tensors
from configs.programs import EvaluateOptions
from envs.base import PictureError
from envs.catch import CatchVecEnv
from experiments.evaluation import command as evaluate
from experiments.training import command as train
from experiments.training.trainer import DONE

SHORT = (
    "--env Catch --env.rows 4 --num-envs 2 --unroll-length 4 --steps 8 --device cpu --threads 1 "
    "--precision fp32"
)
QUICK = "--episodes 5 --num-envs 2 --device cpu --precision fp32 --threads 1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    assert train.main(f"{SHORT} --run-dir {folder}".split()) == DONE
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


def test_a_policy_that_is_no_run_is_scored_but_nothing_is_written_beside_it(run, tmp_path, capsys):
    shutil.move(run / "policy.safetensors", tmp_path / "mine.safetensors")
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    shutil.copy(tmp_path / "mine.safetensors", teacher / "policy.safetensors")
    (teacher / "evaluation.json").write_text("as committed")
    assert evaluate.main(f"teacher {QUICK}".split()) == 0
    assert (teacher / "evaluation.json").read_text() == "as committed"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Not written, since no run's folder: teacher; --output FILE would."
    before = sorted(tmp_path.rglob("*"))
    assert evaluate.main(f"mine.safetensors {QUICK}".split()) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert scored(f"mine.safetensors {QUICK} --output x.json") == scored(
        f"teacher {QUICK} --output y.json"
    )


def copied(run, *names):
    for name in names:
        shutil.copytree(run, name)


def test_several_runs_are_played_alike_and_each_is_written_into_its_folder(run, capsys):
    copied(run, "b", "a")
    assert evaluate.main(f"run b a {QUICK}".split()) == 0
    first, second, third = (
        json.loads(Path(name, "evaluation.json").read_text()) for name in ("run", "b", "a")
    )
    # One policy, one seed: the same episodes.
    assert first == second == third
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == [
        "Playing run (1 of 3).",
        "Playing b (2 of 3).",
        "Playing a (3 of 3).",
    ]
    assert lines[4].startswith("env (protocol)")
    assert lines[6:12:2] == ["run", "b", "a"]
    assert all("Catch (raw+rows=4)" in line for line in lines[7:12:2])
    written = [f"Written to {Path(name, 'evaluation.json')}." for name in ("run", "b", "a")]
    assert lines[12:] == written


def test_the_scores_of_several_runs_go_into_one_file(run):
    copied(run, "b")
    assert evaluate.main(f"b run {QUICK} --output all.json".split()) == 0
    first, second = json.loads(Path("all.json").read_text())
    assert (first["run"], second["run"]) == ("b", "run")
    assert len(first["returns"]) == 5
    assert evaluate.main(f"b run {QUICK} --output all.csv".split()) == 0
    with Path("all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["b", "run"]
    assert float(rows[0]["mean"]) == first["mean"]
    assert not Path("run", "evaluation.json").exists()


def test_an_interrupt_loses_no_run_that_was_played(run, monkeypatch):
    copied(run, "b")
    played = []
    true = evaluate.play_all

    def interrupted(*arguments):
        if played:
            raise KeyboardInterrupt
        played.append(true(*arguments))
        return played[0]

    monkeypatch.setattr(evaluate, "play_all", interrupted)
    assert evaluate.main(f"run b {QUICK}".split()) == 130
    assert Path("run", "evaluation.json").is_file()
    assert not Path("b", "evaluation.json").exists()


@pytest.mark.usefixtures("run")
def test_nothing_is_played_if_one_of_the_runs_cannot_be(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "play_all", None)
    assert refused("run nowhere", capsys).startswith("nowhere cannot be played: there is no")


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_played(
    run, monkeypatch, capsys
):
    monkeypatch.setattr(evaluate, "play_all", None)
    (run / "evaluation.json").mkdir()
    path = Path("run", "evaluation.json")
    assert refused("run", capsys) == f"{path} is a folder: choose a file by --output FILE."


def test_the_environments_are_closed_whatever_happens(run, monkeypatch):
    closed = []
    monkeypatch.setattr("envs.catch.CatchVecEnv.close", lambda env: closed.append(env.spec.name))
    options = EvaluateOptions(("run",), episodes=1, device="cpu")
    evaluate.evaluate(options)
    assert closed == ["Catch", "Catch"]  # the first was built to see that it can be

    def fail(*_):
        raise ValueError("in the midst")

    monkeypatch.setattr(evaluate, "play_all", fail)
    with pytest.raises(ValueError, match="in the midst"):
        evaluate.evaluate(options)
    assert closed == ["Catch"] * 4


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
        ("run --video x.avi", "--video x.avi: a film's name ends in .mp4 or .gif."),
        ("run --video no/x.gif", "no/x.gif cannot be written (No such file or directory)"),
        ("nowhere --video x.gif", "nowhere cannot be played"),
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
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_played(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "play_all", None)
    for output in ("nowhere/x.json", "run/config.json/x.json"):
        said = refused(f"run {QUICK} --output {output}", capsys)
        assert said.startswith(f"{output} cannot be written (No")
        assert said.endswith("): choose another file by --output FILE.")


@pytest.mark.usefixtures("run")
def test_a_disk_that_is_full_in_the_end_is_one_sentence(monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate, "write_one", fail)
    assert refused(f"run {QUICK}", capsys) == (
        "the file cannot be written (No space left on device): choose another one by --output FILE."
    )
    monkeypatch.setattr("experiments.evaluation.film.write_atomically", fail)
    assert refused("run --device cpu --video x.gif", capsys).endswith("by --video FILE.")


@pytest.mark.usefixtures("run")
def test_one_episode_is_filmed_and_nothing_scored(capsys):
    before = sorted(Path("run").rglob("*"))
    for name in ("film.gif", "again.gif"):
        assert evaluate.main(f"run --device cpu --precision fp32 --video {name}".split()) == 0
    _, episode, written, *_ = capsys.readouterr().out.splitlines()
    # A ball falls through four rows in three steps, and is caught or not.
    assert episode in [f"Catch: an episode of 3 steps, score {score}." for score in ("1", "-1")]
    assert written == "Written to film.gif."
    assert sorted(Path("run").rglob("*")) == before
    assert Path("film.gif").read_bytes() == Path("again.gif").read_bytes()
    with Image.open("film.gif") as film:
        # Four cells high at 16 pixels each, ten times enlarged, below the caption.
        assert (film.n_frames, film.height) == (4, 36 + 640)


@pytest.mark.usefixtures("run")
def test_another_seed_is_another_film_and_a_film_may_be_cut():
    for seed in range(6):
        line = f"run --device cpu --video {seed}.gif --video-steps 2 --seed {seed}"
        assert evaluate.main(line.split()) == 0
    films = {Path(f"{seed}.gif").read_bytes() for seed in range(6)}
    assert len(films) > 1
    with Image.open("0.gif") as film:
        assert film.n_frames == 3


@pytest.mark.usefixtures("run")
def test_an_environment_without_pictures_is_refused(monkeypatch, capsys):
    def draw(env, index=0):
        raise ValueError("Catch cannot be drawn: no pencil.")

    monkeypatch.setattr("envs.catch.CatchVecEnv.render", draw)
    said = refused("run --device cpu --video x.gif", capsys)
    assert said == "--video: Catch cannot be drawn: no pencil."


@pytest.mark.usefixtures("run")
def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "play_all", interrupt)
    assert evaluate.main(["run", "--device", "cpu"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("run")
def test_a_picture_that_fails_in_mid_episode_is_one_sentence_and_leaves_no_film(
    monkeypatch, capsys
):
    calls = []

    def render(self, index=0):
        calls.append(index)
        if len(calls) > 2:
            raise PictureError("Catch cannot be drawn: its render() returned nothing.")
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(CatchVecEnv, "render", render)
    said = refused("run --device cpu --video failed.gif", capsys)
    assert said == "--video: Catch cannot be drawn: its render() returned nothing."
    assert not Path("failed.gif").exists()
