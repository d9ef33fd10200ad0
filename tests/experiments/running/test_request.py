"""From a command line and a study file to the study: new, or there already."""

from types import SimpleNamespace

import pytest

from configs.errors import UsageError
from experiments.running.request import plan, read_arguments

GPU = {"device": "cuda", "precision": "bf16"}


def planned(line, pins):
    return plan(read_arguments(line.split()), SimpleNamespace(pins=lambda: pins))


def test_a_study_file_gives_way_to_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heads.toml").write_text('env = "Catch"\nseeds = 3\njobs = 2\n')
    request = read_arguments(["heads.toml", "--seeds", "2", "--env", "Gridworld"])
    assert request.axes == {"env": ("Gridworld",), "seed": ("1", "2")}
    assert (request.options.jobs, request.options.output) == (2, "runs/heads")


def test_a_file_switches_off_what_is_on_by_default(tmp_path):
    file = tmp_path / "search.toml"
    file.write_text('env = "Catch"\nsearch = "optuna"\ntrials = 3\nprune = false\n')
    assert not read_arguments([str(file)]).options.prune


def test_a_search_goes_on_as_it_began():
    with pytest.raises(UsageError, match="drop it, since a search goes on as it began"):
        read_arguments(["--resume", "runs/search", "--no-prune"])


def test_tables_that_are_added_to_a_file_are_added_to_its_study(tmp_path):
    file, output = tmp_path / "study.toml", tmp_path / "study"
    file.write_text('env = "Catch"\naux = "none"\n')
    study, first = planned(f"{file} --output {output}", GPU)
    study.save()
    file.write_text('env = "Catch"\naux = "none"\n[[also]]\ndiscount = 0.9\n')
    for line in (f"{file} --output {output}", f"{file} --resume {output}"):
        _, runs = planned(line, GPU)
        assert [run.name for run in runs] == [first[0].name, "Catch-main-discount=0.9-s1"]


def test_a_study_on_the_cpu_of_a_machine_with_a_gpu_has_the_cpu_s_precision(tmp_path):
    study, runs = planned(f"--env Catch --device cpu --output {tmp_path / 'cpu'}", GPU)
    assert study.pins["device"] == "cpu"
    usual, _ = planned(f"--env Catch --output {tmp_path / 'gpu'}", GPU)
    assert (usual.pins["device"], usual.pins["precision"]) == ("cuda", "bf16")
    assert runs[0].config.run.device == "cpu"
