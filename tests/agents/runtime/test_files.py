import json
import os
import resource
import socket
from pathlib import Path

import pytest
import torch

from agents.runtime.checkpoint import (
    DamagedFileError,
    load_tensors,
    remove_leftovers,
    save_tensors,
    write_atomically,
    write_json,
)

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "mask": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
}
CONTENT = {"name": "Übung", "options": [1, None, 2.5]}


@pytest.fixture
def file_size():
    """Limits how large this process may make a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_tensors_and_content_come_back_as_they_were(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(path, TENSORS, CONTENT)
    tensors, content = load_tensors(path)
    assert content == CONTENT
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])
    assert os.listdir(tmp_path) == ["file.safetensors"]


def test_tensors_that_share_memory_can_be_written(tmp_path):
    path = tmp_path / "file.safetensors"
    table = torch.arange(6.0).reshape(2, 3).requires_grad_()
    tied = {
        "a": table,
        "b": table,
        "row": table[1],
        "turned": table.T,
        "same": table.expand(4, 2, 3),
    }
    save_tensors(path, tied, {})
    tensors, _ = load_tensors(path)
    assert tensors.keys() == tied.keys()
    assert all(torch.equal(tensors[name], tied[name]) for name in tied)


def test_what_was_read_outlives_the_file(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(path, TENSORS, CONTENT)
    tensors, _ = load_tensors(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(tensors["weight"], TENSORS["weight"])


def test_every_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(path, {"weight": TENSORS["weight"]}, {"step": 12})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedFileError, match=r"file\.safetensors"):
            load_tensors(path)


@pytest.mark.parametrize("left", [0, 1, 8, 100, -1])
def test_a_file_cut_short_is_damaged(tmp_path, left):
    path = tmp_path / "file.safetensors"
    save_tensors(path, TENSORS, CONTENT)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        load_tensors(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "file.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(DamagedFileError, match="was not written by this program"):
        load_tensors(path)


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "none.safetensors")


def test_json_is_readable_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "config.json", {"seed": 1, "env": "Pong"})
    text = (tmp_path / "config.json").read_text()
    assert text == '{\n  "seed": 1,\n  "env": "Pong"\n}\n'
    assert json.loads(text) == {"seed": 1, "env": "Pong"}


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path, file_size):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    file_size(1000)
    with pytest.raises(OSError, match="too large"):
        write_atomically(path, bytes(2000))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_equal_content_makes_equal_bytes(tmp_path):
    # The library alone orders its metadata at random: eight files would be alike once in 128.
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_tensors(file, TENSORS, CONTENT)
    assert len({file.read_bytes() for file in files}) == 1


def test_a_link_stays_and_leads_to_the_new_content(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/file")
    (tmp_path / "second").symlink_to("link")
    write_atomically(tmp_path / "second", b"new")  # the target is not there yet
    write_atomically(tmp_path / "link", b"ne", b"wer")
    assert (tmp_path / "far" / "file").read_bytes() == b"newer"
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "far") == ["file"]


def test_a_device_is_written_to_and_stays_one():
    before = os.stat("/dev/null")
    write_atomically(Path("/dev/null"), b"gone")
    assert os.stat("/dev/null").st_rdev == before.st_rdev
    with pytest.raises(OSError, match="No space left"):
        write_atomically(Path("/dev/full"), b"x")


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "linked pipe", "open file"])
def test_what_is_no_file_is_refused_and_stays(tmp_path, kind):
    path = tmp_path / "target"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(str(path))
        case "linked pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        case "open file":
            (tmp_path / "redirected").write_bytes(b"said before")
            descriptor = os.open(tmp_path / "redirected", os.O_RDWR)
            path = Path(f"/dev/fd/{descriptor}")
    before = path.stat().st_ino
    with pytest.raises(OSError, match="it is a"):
        write_atomically(path, b"new")
    assert path.stat().st_ino == before
    if kind == "open file":
        assert (tmp_path / "redirected").read_bytes() == b"said before"
        os.close(descriptor)


def test_leftovers_of_killed_processes_are_removed_and_no_other_file(tmp_path):
    kept = [".notes.txt.12.tmp", "file.12.tmp", ".file.twelve.tmp", ".file.tmp", "file"]
    for name in (".file.12.tmp", *kept):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, lambda name: name == "file")
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
