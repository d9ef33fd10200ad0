"""The command as a user meets it: what it writes, that it can be made again, and every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.report import __main__ as report
from experiments.report.arms import group
from experiments.report.runs import is_run, read
from experiments.report.scores import compare, summarise
from experiments.report.tables import Report, write

ROOT = Path(__file__).resolve().parents[3]
COSINE = "--env Breakout --steps 100 --aux distill --gate cosine"
PLAIN = "--env Breakout --steps 100"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(write_run, tmp_path):
    """Two arms of two seeds in the folder `runs`."""
    for name, line, level in (("main", PLAIN, 1.0), ("cosine", COSINE, 5.0)):
        for seed in (1, 2):
            folder = tmp_path / "runs" / f"{name}-{seed}"
            rows = ((50, level), (100, level * 2 + seed))
            write_run(folder, f"{line} --seed {seed}", rows)
    return Path("runs")


def made(line):
    assert report.main(line.split()) == 0


def refused(line, capsys):
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    assert report.main(line.split()) == 2
    assert {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()} == before
    said = capsys.readouterr().err
    assert said.startswith("report.py: ")
    assert said.count("\n") == 1
    return said.removeprefix("report.py: ").strip()


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_folder_of_runs_becomes_curves_tables_and_figures(runs, capsys):
    made(f"{runs} --output out")
    assert set(content("out")) == {
        "Breakout_distill_cosine-s1.csv",
        "Breakout_distill_cosine-s2.csv",
        "Breakout_main_only-s1.csv",
        "Breakout_main_only-s2.csv",
        "summary.csv",
        "comparison.csv",
        "report.json",
        "curves.png",
        "improvement.png",
        "report.html",
    }
    found = json.loads(Path("out/report.json").read_text())
    # Twice the level plus the seed: 3 and 4, 11 and 12.
    finals = {row["arm"]: row["values"] for row in found["summary"][:2]}
    assert finals == {"main only": [3, 4], "distill, cosine": [11, 12]}
    said = capsys.readouterr().out
    assert "Breakout (score)" in said
    assert "'distill, cosine' ends above 'main only'" in " ".join(said.split())


def test_the_report_is_made_again_from_its_own_files_alone(runs):
    made(f"{runs} --output out")
    before = content("out")
    for path in runs.rglob("*.*"):
        path.unlink()
    for name in ("summary.csv", "report.json", "curves.png", "improvement.png", "report.html"):
        Path("out", name).unlink()
    made("--output out")
    assert content("out") == before


def test_a_figure_is_drawn_again_as_it_was_asked_for(runs):
    given = ["--output", "out", "--first", "distill, cosine", "--teacher", "50"]
    assert report.main([str(runs), *given]) == 0
    before = content("out")
    for name in ("curves.png", "improvement.png"):
        Path("out", name).unlink()
        report.redraw(Path("out", name))
    assert content("out") == before


def test_a_run_that_is_there_already_is_replaced(runs, write_run, tmp_path):
    made(f"{runs} --output out")
    write_run(tmp_path / "again", f"{COSINE} --seed 1", ((100, 99.0),))
    made("again --output out")
    names = [name for name in content("out") if name.endswith("-s1.csv")]
    assert sorted(names) == ["Breakout_distill_cosine-s1.csv", "Breakout_main_only-s1.csv"]
    assert "100,99," in Path("out/Breakout_distill_cosine-s1.csv").read_text()


def test_runs_of_another_arm_never_overwrite_a_file(runs, write_run, tmp_path):
    made(f"{runs}/main-1 --output out")
    write_run(tmp_path / "other", f"{PLAIN} --seed 1 --discount 0.5")
    made("other --output out")
    found = json.loads(Path("out/report.json").read_text())
    assert {run["arm"] for run in found["runs"]} == {
        "main only, discount 0.99",
        "main only, discount 0.5",
    }
    assert len({run["file"] for run in found["runs"]}) == 2


def test_files_of_one_report_go_into_another(runs):
    made(f"{runs} --output out")
    made("out/Breakout_main_only-s1.csv --output one")
    name = "Breakout_main_only-s1.csv"
    assert content("one")[name] == content("out")[name]
    # One arm: nothing to compare.
    assert not {"comparison.csv", "improvement.png"} & set(content("one"))
    made("out --output all")
    assert set(content("all")) == set(content("out"))


def test_figures_of_arms_that_are_gone_do_not_stay(runs):
    made(f"{runs} --output out")
    for path in Path("out").glob("*cosine*.csv"):
        path.unlink()
    made("--output out")
    assert not {"comparison.csv", "improvement.png"} & set(content("out"))


def test_the_first_arm_can_be_chosen(runs):
    assert report.main([str(runs), "--output", "out", "--first", "distill, cosine"]) == 0
    found = json.loads(Path("out/report.json").read_text())
    assert found["comparison"][0]["against"] == "distill, cosine"


def test_no_runs_are_one_sentence(capsys):
    said = refused("--output nowhere", capsys)
    assert said.startswith("there are no runs in nowhere: give the folders of some")


def test_a_folder_that_does_not_exist_is_one_sentence(capsys):
    said = refused("missing --output out", capsys)
    assert said == "missing does not exist: give run folders, or CSVs of another report."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("runs", "--output is missing: --help-all explains it."),
        ("--output out --frist x", "--frist is not an option here: did you mean --first?"),
    ],
)
def test_a_wrong_option_is_one_sentence(line, expected, capsys):
    assert refused(line, capsys) == expected


def test_runs_are_found_at_any_depth(runs, write_run, tmp_path):
    write_run(tmp_path / "study" / "Breakout" / "main" / "seed-3", f"{PLAIN} --seed 3")
    made("study --output out")
    assert "Breakout_main_only-s3.csv" in content("out")


@pytest.mark.parametrize("name", ["empty", "table.csv"])
def test_what_holds_no_run_is_one_sentence(name, capsys):
    Path("empty").mkdir()
    Path("table.csv").write_text("env,arm\n")
    assert refused(f"{name} --output out", capsys).startswith(f"{name} holds no run: ")


def test_what_is_no_run_is_skipped_with_a_warning(runs, write_run, tmp_path, capsys):
    write_run(tmp_path / "runs" / "young", rows=())
    sweep = tmp_path / "runs" / "sweep"
    sweep.mkdir()
    (sweep / "config.json").write_text('{"worlds": 3}')
    (tmp_path / "runs" / "notes").mkdir()
    made(f"{' '.join(map(str, sorted(runs.iterdir())))} --output out")
    assert len(list(Path("out").glob("*-s?.csv"))) == 4
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "report.py: skipped: runs/notes holds no run: "
        "give folders with a config.json and a metrics.csv.",
        "report.py: skipped: runs/sweep is no run: it has no versions.json.",
        "report.py: skipped: runs/young has no finished episode in metrics.csv: "
        "train it for longer.",
    ]


def test_a_run_without_points_alone_is_one_sentence(write_run, tmp_path, capsys):
    write_run(tmp_path / "young", rows=())
    said = refused("young --output out", capsys)
    assert said == "young has no finished episode in metrics.csv: train it for longer."


def test_the_second_of_two_runs_of_the_same_arm_and_seed_is_skipped(
    runs, write_run, tmp_path, capsys
):
    write_run(tmp_path / "twin", f"{PLAIN} --seed 1", ((100, 99.0),))
    made(f"{runs}/main-1 twin --output out")
    assert "100,99," not in Path("out/Breakout_main_only-s1.csv").read_text()
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == ["report.py: skipped: twin is the same arm and seed as runs/main-1."]


def test_an_unknown_first_arm_is_one_sentence(runs, capsys):
    said = refused(f"{runs} --output out --first nonsense", capsys)
    assert said == ("--first 'nonsense' is no arm: choose one of distill, cosine; main only.")


def test_a_damaged_file_is_skipped_and_made_again_from_its_run(runs, capsys):
    made(f"{runs} --output out")
    path = Path("out/Breakout_main_only-s1.csv")
    whole = path.read_text()
    path.write_text(whole.splitlines()[0] + "\n")
    capsys.readouterr()
    made("--output out")
    assert "Breakout_main_only-s1.csv is damaged" in capsys.readouterr().err
    assert len(json.loads(Path("out/report.json").read_text())["runs"]) == 3
    made(f"{runs}/main-1 --output out")
    assert path.read_text() == whole
    assert len(json.loads(Path("out/report.json").read_text())["runs"]) == 4


def test_nothing_but_damaged_files_is_one_sentence(runs, capsys):
    made(f"{runs}/main-1 --output out")
    path = Path("out/Breakout_main_only-s1.csv")
    path.write_text(path.read_text().splitlines()[0] + "\n")
    capsys.readouterr()
    assert "Breakout_main_only-s1.csv is damaged" in refused("--output out", capsys)


def test_a_copy_of_a_file_in_the_folder_is_skipped_and_kept(runs, capsys):
    made(f"{runs} --output out")
    copy = Path("out/copy.csv")
    copy.write_bytes(Path("out/Breakout_main_only-s1.csv").read_bytes())
    before = copy.read_bytes()
    made("--output out")
    assert len(json.loads(Path("out/report.json").read_text())["runs"]) == 4
    assert copy.read_bytes() == before
    assert "is the same arm and seed as" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(runs, capsys):
    Path("file").write_text("")
    said = refused(f"{runs} --output file/out", capsys)
    assert said.startswith("the report cannot be written (")
    assert said.endswith("choose another folder by --output.")


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.report", "--output", "nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("report.py: there are no runs in nowhere")


def test_the_committed_tables_are_those_of_the_committed_runs():
    for path in (ROOT / "benchmarks" / "results").glob("*/report.json"):
        first = json.loads(path.read_text())["runs"][0]["arm"]
        arms = group([read(run) for run in sorted(path.parent.glob("*.csv")) if is_run(run)], first)
        folder = Path(path.parent.name)
        folder.mkdir()
        write(Report(arms, summarise(arms), compare(arms)), [], folder)
        for name in set(content(folder)) - {"report.json"}:
            assert content(folder)[name] == content(path.parent)[name]


def test_an_empty_output_is_not_the_working_folder(runs, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert report.main(["runs/main-1", "--output", ""]) == 2
    assert "--output is empty: name a file or folder" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
