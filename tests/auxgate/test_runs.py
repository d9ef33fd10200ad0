"""`auxgate.train` does what the command does, and returns what it left."""

import importlib
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import agents.algorithms.a2c
import auxgate
import auxgate.runs
from agents.learning.learner import Learner
from auxgate.__main__ import main
from auxgate.runs import flags
from configs.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"env.rows": 4, "num_envs": 3, "unroll_length": 4, "device": "cpu", "threads": 1}
SMALL |= {"precision": "fp32", "log_steps": 1}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def small(**more):
    return auxgate.train(env="Catch", options=SMALL, **{"steps": 48, "run_dir": "run"} | more)


def test_a_film_is_not_made_from_python():
    with pytest.raises(UsageError, match="video has no effect here"):
        small().evaluate(video="film.mp4")


def test_a_run_has_its_folder_its_columns_its_policy_and_its_scores():
    run = small(aux="inverse", gate="cosine")
    assert run.finished
    assert run.folder == Path("run")
    columns = run.metrics()
    assert columns["step"].tolist() == [12, 24, 36, 48]
    assert {len(column) for column in columns.values()} == {4}
    assert np.isfinite(columns["sps"]).all()
    scores = run.evaluate(episodes=3, device="cpu", threads=1, precision="fp32")
    assert len(scores.returns) == 3
    assert (run.folder / "evaluation.json").is_file()
    assert isinstance(run.policy("cpu"), torch.nn.Module)


def test_the_numbers_are_those_of_the_command():
    words = [*flags({"env": "Catch", **SMALL}), "--steps", "48", "--run-dir", "typed"]
    assert main(["train", *words]) == 0
    run = small()
    typed = auxgate.Run(Path("typed"), run.config, run.steps).metrics()
    clocked = {"seconds", "sps", "environment", "acting", "learning"}
    ours = run.metrics()
    for name in ours.keys() - clocked:
        np.testing.assert_array_equal(ours[name], typed[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"env": "Catch"}, "--env Catch"),
        ({"gate": None}, ""),
        ({"aux": ["spr", "curl"]}, "--aux spr curl"),
        ({"num_envs": 3}, "--num-envs 3"),
        ({"aux__multi_horizon__learn_rate": 0.1}, "--aux.multi-horizon.learn-rate 0.1"),
        ({"aux.distill.temperature": 0.1}, "--aux.distill.temperature 0.1"),
        ({"compile": True, "env__noisy": False}, "--compile --env.no-noisy"),
        ({"run_dir": Path("a/b")}, "--run-dir a/b"),
    ],
)
def test_keywords_say_what_flags_say(options, words):
    assert " ".join(flags(options)) == words


def test_dotted_options_reach_the_config():
    run = small(aux="inverse", aux__inverse__coefficient=0.25, seed=7)
    assert run.config.heads["inverse"].coefficient == 0.25
    assert run.config.run.seed == 7


@pytest.mark.parametrize("mistake", [{"steps": 0}, {"gate": "cosine"}, {"nonsense": 1}])
def test_a_mistake_is_an_exception_and_leaves_nothing(mistake):
    with pytest.raises(auxgate.UsageError):
        small(**mistake)
    assert not Path("run").exists()


def test_an_interrupted_run_is_returned_and_goes_on(monkeypatch):
    before = Learner.update

    def interrupted(self, trajectory):
        if self.updates == 1:
            signal.raise_signal(signal.SIGINT)
        return before(self, trajectory)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", interrupted)
        run = small()
    assert (run.steps, run.finished) == (24, False)
    more = auxgate.train(resume=run.folder)
    assert (more.steps, more.finished) == (48, True)
    assert more.metrics()["step"].tolist() == [12, 24, 36, 48]


def test_a_run_that_diverges_is_an_exception(monkeypatch):
    monkeypatch.setattr(agents.algorithms.a2c, "entropy", lambda logits: logits.sum(-1) * torch.nan)
    with pytest.raises(auxgate.DivergedError, match="weights before them are saved in run"):
        small(max_skipped=2)


def test_the_example_of_the_documentation_runs():
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    example = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    assert "auxgate.train(" in example
    # As many steps as show that it runs.
    short = re.sub(r"steps=[\d_]+", "steps=2_000", example)
    assert short != example
    exec(short, {"__name__": "example"})


# --- the command ------------------------------------------------------------------------


def test_the_command_lists_its_commands(capsys):
    assert main(["--help"]) == 0
    assert "auxgate evaluate" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["trian"]) == 2
    assert "'trian' is no command: choose train, evaluate, sweep" in capsys.readouterr().err


def test_the_command_says_which_extra_is_missing(monkeypatch, capsys):
    told = ["torch>=2", 'nonsuch>=1; extra == "train"', 'other>=1; extra == "dev"']
    monkeypatch.setattr("auxgate.__main__.requires", lambda name: told)
    assert main(["train", "--env", "Catch"]) == 2
    assert capsys.readouterr().err == (
        "auxgate train: training needs nonsuch, which is not installed: "
        "pip install 'auxgate[train]'.\n"
    )
    with pytest.raises(ImportError, match=r"pip install 'auxgate\[train\]'"):
        importlib.reload(auxgate.runs)
