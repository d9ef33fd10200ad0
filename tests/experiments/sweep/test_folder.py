import json
from dataclasses import fields, replace

import pytest
import torch

from agents.runtime.checkpoint import save_tensors, write_json
from configs.errors import UsageError
from configs.programs import SweepConfig
from experiments.sweep.folder import Chunk, create, from_json, load, resumed, save, settle, to_json
from gridworld import WorldConfig


@pytest.fixture
def chunk():
    """One point, two arms, three rows."""
    return Chunk(
        expected_return=torch.randn(2, 2, 3).double(),
        cosine=torch.randn(1, 2, 3),
        weight=torch.randn(1, 2, 3),
        teacher=torch.randn(4, 3).double(),
        optimum=torch.randn(3).double(),
        random=torch.randn(3).double(),
        cells=torch.tensor([7, 8, 9]),
        aliased=torch.tensor([1, 2, 3]),
    )


def test_a_settled_sweep_says_what_was_left_open():
    settled = settle(SweepConfig(full=True), torch.device("cpu"))
    assert (settled.worlds, settled.full, settled.chunk) == (1000, False, 1000)
    assert (settled.learning_rate, settled.device) == (10.0, "cpu")
    assert settle(SweepConfig(chunk=7), torch.device("cpu")).chunk == 7


def test_options_are_read_back(tiny):
    assert from_json(json.loads(json.dumps(to_json(tiny)))) == tiny
    other = replace(tiny, world=WorldConfig(terminal_rewards=(1.0,)), gates=("nash",))
    assert from_json(to_json(other)) == other


def test_a_chunk_is_read_back(tmp_path, tiny, chunk):
    folder = create(replace(tiny, output=str(tmp_path / "new")))
    assert load(folder, 0) is None
    save(folder, 0, chunk)
    found = load(folder, 0)
    for field in fields(Chunk):
        assert torch.equal(getattr(found, field.name), getattr(chunk, field.name))
    assert load(folder, 1) is None


def test_a_damaged_chunk_counts_as_missing(tmp_path, tiny, chunk):
    folder = create(replace(tiny, output=str(tmp_path / "new")))
    save(folder, 0, chunk)
    [file] = (folder / "chunks").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert load(folder, 0) is None


def test_the_same_options_find_the_same_folder_and_others_are_refused(tmp_path, tiny):
    config = replace(tiny, output=str(tmp_path / "new"))
    folder = create(config)
    assert create(replace(config, workers=7)) == folder
    with pytest.raises(UsageError, match="other options"):
        create(replace(config, seed=1))


def test_a_folder_with_something_else_is_left_alone(tmp_path, tiny):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"):
        create(replace(tiny, output=str(tmp_path)))
    with pytest.raises(UsageError, match="cannot be written"):
        create(replace(tiny, output=str(tmp_path / "thesis.txt")))


def test_a_sweep_without_a_folder_gets_one_of_its_own(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = create(tiny)
    assert folder.parent.name == "runs"
    assert folder.name.startswith("sweep-s0-")
    assert {path.name for path in folder.iterdir()} == {"config.json", "versions.json", "chunks"}


def test_a_sweep_goes_on_with_its_own_options(tmp_path, tiny):
    folder = create(replace(tiny, output=str(tmp_path / "new")))
    found = resumed(SweepConfig(resume=str(folder), workers=2))
    assert found == replace(tiny, output=str(folder), workers=2)
    # And so finds its folder.
    assert create(found) == folder


def test_other_options_beside_resume_are_refused(tmp_path, tiny):
    folder = create(replace(tiny, output=str(tmp_path / "new")))
    with pytest.raises(UsageError, match="drop all others but --workers"):
        resumed(SweepConfig(resume=str(folder), updates=7))


@pytest.mark.parametrize("content", [None, "", "{}", '{"env": 3}', '{"worlds": 0}', "[]"])
def test_what_is_no_sweep_cannot_be_resumed(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match="is not a sweep's folder"):
        resumed(SweepConfig(resume=str(tmp_path)))


def test_a_chunk_of_another_sweep_or_place_counts_as_missing(tmp_path, tiny, chunk):
    folder = create(replace(tiny, output=str(tmp_path / "new")))
    save(folder, 0, chunk, tiny)
    assert load(folder, 0, tiny) is not None
    assert load(folder, 0, replace(tiny, workers=3)) is not None
    assert load(folder, 0, replace(tiny, seed=1)) is None
    (folder / "chunks" / "00000.safetensors").rename(folder / "chunks" / "00001.safetensors")
    assert load(folder, 1, tiny) is None
    save(folder, 0, chunk)  # as earlier versions did
    assert load(folder, 0, tiny) is not None


@pytest.mark.parametrize("left", [[".lock"], [".lock", "chunks/", ".config.json.7.tmp"]])
def test_a_sweep_that_died_before_it_had_its_options_starts_over(tmp_path, tiny, left):
    folder = tmp_path / "new"
    folder.mkdir()
    for name in left:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    assert create(replace(tiny, output=str(folder))) == folder


def test_an_empty_folder_of_chunks_that_no_sweep_made_is_left_alone(tmp_path, tiny):
    (tmp_path / "new" / "chunks").mkdir(parents=True)
    with pytest.raises(UsageError, match="is not empty"):
        create(replace(tiny, output=str(tmp_path / "new")))


def test_a_sweep_whose_limit_had_another_name_goes_on_with_its_chunks(tmp_path, tiny, chunk):
    config = replace(tiny, output=str(tmp_path / "new"))
    folder = create(config)
    older = to_json(config)
    older["world"]["time_limit"] = older["world"].pop("max_episode_steps")
    write_json(folder / "config.json", older)
    save_tensors(
        folder / "chunks" / "00000.safetensors", vars(chunk), {"number": 0, "config": older}
    )
    assert create(config) == folder
    assert resumed(SweepConfig(resume=str(folder))) == config
    assert load(folder, 0, config) is not None
