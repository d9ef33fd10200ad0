"""From a run's folder to its CSV: nothing is lost that the report needs, and nothing invented."""

import json
from pathlib import Path

import pytest

from agents.runtime.checkpoint import CONTENT
from experiments.report.arms import group, same_run
from experiments.report.runs import NUM_POINTS, parse, thin

DISTILL = "--env Breakout --steps 100 --seed 3 --aux distill --gate cosine"


def thinned(folder):
    return parse(thin(folder), folder)


def test_a_short_curve_is_kept_as_it_is(write_run, tmp_path):
    run = thinned(write_run(tmp_path / "run", rows=((10, None), (40, 1.5), (100, 3.25))))
    assert run.step.tolist() == [10, 40, 100]
    step, values = run.measured("return")
    assert (step.tolist(), values.tolist()) == ([40, 100], [1.5, 3.25])
    assert run.columns["entropy"].tolist() == [0.5] * 3


def test_a_long_curve_becomes_means_over_hundredths_of_its_steps(write_run, tmp_path):
    # 400 lines: four to a point; the first point is the mean of returns 1 to 4.
    rows = [(10 * line, float(line)) for line in range(1, 401)]
    run = thinned(write_run(tmp_path / "run", rows=rows))
    assert len(run.step) == NUM_POINTS
    assert run.step[0] == 40
    assert run.step[-1] == 4_000
    assert run.columns["return"][0] == 2.5
    assert run.columns["return"][-1] == 398.5


def test_lines_without_a_return_do_not_pull_the_mean_down(write_run, tmp_path):
    rows = [(line, 6.0 if line % 2 else None) for line in range(1, 401)]
    assert set(thinned(write_run(tmp_path / "run", rows=rows)).columns["return"]) == {6.0}


def test_the_first_lines_say_how_the_run_was_made(write_run, tmp_path):
    about = thinned(write_run(tmp_path / "run", DISTILL, dirty=True)).about
    assert about["env"] == "Breakout"
    assert about["arm"] == "distill, cosine"
    assert about["seed"] == "3"
    assert about["command"].startswith("python train.py --env Breakout --seed 3 ")
    assert about["commit"] == "c0ffee (dirty)"
    assert about["hardware"] == "a machine, 2 cores, GPU None"
    # A package that was not there is not named.
    assert about["packages"] == "torch 2.13"


def test_a_variant_of_the_program_is_an_arm_of_its_own_and_made_by_its_own_command(
    write_run, tmp_path
):
    masked = thinned(write_run(tmp_path / "masked"))
    unmasked = thinned(write_run(tmp_path / "unmasked", variant="unmasked"))
    assert not same_run(masked, unmasked)
    assert masked.about["command"].startswith("python train.py --env Breakout ")
    assert unmasked.about["command"].startswith(
        "python -m experiments.studies.autoreset --unmasked -- --env Breakout "
    )
    names = {arm.name for arm in group([masked, unmasked])}
    assert names == {
        "main only, autoreset steps masked",
        "main only, autoreset steps unmasked",
    }


def test_where_the_run_lay_is_not_told(write_run, tmp_path):
    text = thin(write_run(tmp_path / "run"))
    assert str(tmp_path) not in text
    # Everything else of the config is.
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["run"]["run_dir"] = ""
    assert parse(text, tmp_path).config == config


def test_columns_of_the_run_s_heads_are_kept(write_run, tmp_path):
    folder = write_run(tmp_path / "run", DISTILL)
    (folder / "metrics.csv").write_text(
        "step,return,distill/cosine,distill/dropped,inverse/cosine\n100,1,0.25,0,0.5\n"
    )
    run = thinned(folder)
    assert run.columns["distill/cosine"].tolist() == [0.25]
    assert set(run.columns) == {"return", "distill/cosine"}


def test_the_protocol_is_that_of_the_exported_policy(write_run, tmp_path):
    folder = write_run(tmp_path / "run")
    assert "protocol" not in thinned(folder).about
    # A safetensors file without tensors: the length of its header, then the header.
    content = json.dumps({"protocol": "machado"})
    header = json.dumps({"__metadata__": {CONTENT: content}}).encode()
    (folder / "policy.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert thinned(folder).about["protocol"] == "machado"


def test_an_evaluation_beside_the_policy_goes_along(write_run, tmp_path):
    folder = write_run(tmp_path / "run")
    assert thinned(folder).evaluation is None
    result = {"mean": 2.5, "episodes": 7, "trained_steps": 100, "seed": 9}
    (folder / "evaluation.json").write_text(json.dumps({**result, "returns": [2.0, 3.0]}))
    assert thinned(folder).evaluation == result


def test_the_teacher_s_score_goes_along(write_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = Path("teacher")
    teacher.mkdir()
    folder = write_run(tmp_path / "run", f"{DISTILL} --teacher teacher")
    assert thinned(folder).teacher is None
    (teacher / "evaluation.json").write_text('{"mean": 12.5}')
    assert thinned(folder).teacher == 12.5
    assert thinned(write_run(tmp_path / "plain")).teacher is None


def test_the_shipped_teacher_s_score_is_that_of_its_evaluation(write_run, tmp_path):
    from experiments.training.teachers import SHIPPED_TEACHERS

    evaluation = json.loads((SHIPPED_TEACHERS / "Breakout" / "evaluation.json").read_text())
    found = thinned(write_run(tmp_path / "run", DISTILL)).teacher
    assert found == pytest.approx(evaluation["mean"], rel=1e-4)


@pytest.mark.parametrize(
    ("game", "flags"),
    [
        ("Breakout", "--aux.distill.mirror"),
        ("Breakout", "--aux.distill.mask 0.3"),
        ("Breakout", "--aux.distill.delay 2"),
        ("Pong", ""),
    ],
)
def test_a_score_says_nothing_of_a_wrong_teacher_or_one_in_another_game(
    game, flags, write_run, tmp_path
):
    line = f"{DISTILL.replace('Breakout', game)} --teacher Breakout {flags}"
    assert thinned(write_run(tmp_path / "run", line)).teacher is None


@pytest.mark.parametrize("missing", ["config.json", "versions.json", "metrics.csv"])
def test_a_folder_without_one_of_its_files_is_no_run(missing, write_run, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"run is no run: it has no {missing}"):
        thin(folder)


@pytest.mark.parametrize("rows", [(), ((50, None), (100, None))], ids=["no line", "no return"])
def test_a_run_without_a_finished_episode_is_refused(rows, write_run, tmp_path):
    with pytest.raises(
        ValueError, match=r"no finished episode in metrics\.csv: train it for longer"
    ):
        thin(write_run(tmp_path / "run", rows=rows))


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"choice": {"env": "Pong"}}'])
def test_a_config_that_is_none_is_refused(text, write_run, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="run cannot be read"):
        thin(folder)
