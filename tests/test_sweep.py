import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from experiments.sweep.command import main
from experiments.training.lock import FolderLock

TINY = (
    *("--worlds", "3", "--updates", "4", "--points", "2", "--workers", "1", "--chunk", "10"),
    *("--gates", "sum", "cosine", "--temperatures", "0", "1", "--world.height", "6"),
    *("--world.width", "7", "--world.terminal-probability", "0.1"),
    *("--practice.num-envs", "2", "--practice.unroll-length", "3", "--device", "cpu"),
)
"""Three worlds of nine arms, each a chunk of its own."""

RESULTS = ("curves.csv", "worlds.csv", "summary.json", "verdicts.txt", "sweep.png", "finals.png")


def bytes_of(folder):
    return [(folder / name).read_bytes() for name in RESULTS]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep; not to be changed."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    assert main([*TINY, "--output", str(folder)]) == 0
    return folder


def test_a_sweep_writes_its_results_and_says_what_they_mean(tmp_path, capsys):
    swept = tmp_path / "new"
    assert main([*TINY, "--output", str(swept)]) == 0
    text = capsys.readouterr().out
    assert "27 students in 3 worlds on cpu, 1 process" in text
    assert "A cold misleading teacher pulls sum below main-only" in text
    content = json.loads((swept / "summary.json").read_text())
    assert len(content["arms"]) == 9
    assert len(list((swept / "chunks").iterdir())) == 3


def test_the_same_command_gives_the_same_bytes(swept, tmp_path):
    again = tmp_path / "again"
    assert main([*TINY, "--output", str(again)]) == 0
    assert bytes_of(again) == bytes_of(swept)


def test_another_seed_gives_other_results(swept, tmp_path):
    other = tmp_path / "other"
    assert main([*TINY, "--seed", "1", "--output", str(other)]) == 0
    assert bytes_of(other)[0] != bytes_of(swept)[0]


def test_what_was_lost_is_computed_again_and_nothing_else(swept, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(swept, folder)
    kept = folder / "chunks" / "00000.safetensors"
    (folder / "chunks" / "00001.safetensors").unlink()
    (folder / "chunks" / "00002.safetensors").write_bytes(b"half a fi")
    for name in RESULTS:
        (folder / name).unlink()
    age = kept.stat().st_mtime_ns
    assert main(["--resume", str(folder)]) == 0
    assert "1 of 3 parts are done already" in capsys.readouterr().out
    assert bytes_of(folder) == bytes_of(swept)
    assert kept.stat().st_mtime_ns == age


def test_an_interrupted_sweep_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "cut"

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.sweep.command.compute_all", interrupt)
    assert main([*TINY, "--output", str(folder)]) == 130
    assert f"go on by --resume {folder}" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["--resume", str(folder)]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--gates", "attittud"], "needs gradients of single steps"),
        (["--resume", "nowhere"], "--resume nowhere is not a sweep's folder"),
        (["--device", "tpu"], "--device 'tpu' is not available here"),
        (["--world.layout", "cave"], "layout must be one of"),
        (["--address", "x:1"], "--address has no effect without --on ray: add it."),
        (["--on", "ray", "--device", "cuda:1"], "use --device cuda with --on ray"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sweep.py: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_worlds_that_cannot_be_made_are_a_mistake_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(import_module("gridworld.generate"), "MOST_ATTEMPTS", 2)
    walled = ["--world.wall-probability", "1", "--workers", "1"]
    assert main([*walled, "--output", str(tmp_path / "new")]) == 2
    assert "had no reward worth its way" in capsys.readouterr().err


@pytest.mark.slow
def test_ray_writes_the_same_files_with_the_same_bytes(swept, tmp_path):
    pytest.importorskip("ray")
    folder = tmp_path / "ray"
    arguments = [*TINY, "--on", "ray", "--output", str(folder)]
    arguments[arguments.index("--workers") + 1] = "2"
    assert main(arguments) == 0
    files = [
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (swept, folder)
    ]
    for found in files:
        # Their names and contents have the time.
        for path in [path for path in found if path.parts[0] == "tensorboard"]:
            del found[path]
    assert Path("chunks", "00000.safetensors") in files[0]
    assert files[0] == files[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_picture_with_other_numbers(tmp_path):
    folder = tmp_path / "gpu"
    assert main([*TINY[:-1], "cuda", "--output", str(folder)]) == 0
    assert (folder / "sweep.png").is_file()


def test_a_sweep_whose_device_is_not_here_says_where_to_go_on(swept, tmp_path, capsys):
    folder = tmp_path / "elsewhere"
    shutil.copytree(swept, folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"device": "cpu"', '"device": "cuda:99"'))
    assert main(["--resume", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "was begun on cuda:99, which this machine does not have" in error
    assert error.count("\n") == 1


def test_a_sweep_that_runs_is_not_continued_meanwhile(swept, tmp_path, capsys):
    copy = shutil.copytree(swept, tmp_path / "copy")
    with FolderLock(copy):
        assert main(["--resume", str(copy)]) == 2
    assert f"sweep.py: {copy} is in use by process " in capsys.readouterr().err


def test_a_chunk_that_cannot_be_written_is_named_without_a_traceback(swept, tmp_path, capfd):
    copy = shutil.copytree(swept, tmp_path / "copy")
    for number in (0, 1):
        chunk = copy / "chunks" / f"{number:05d}.safetensors"
        chunk.unlink()
        chunk.mkdir()
    for workers in ("1", "2"):
        assert main(["--resume", str(copy), "--workers", workers]) == 1
        said = capfd.readouterr().err
        assert "safetensors cannot be written (it is a folder). Go on by --resume" in said
        assert "Traceback" not in said
