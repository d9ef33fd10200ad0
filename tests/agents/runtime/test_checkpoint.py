import json
import math
import os
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from torch import nn

from agents.runtime.checkpoint import (
    flatten,
    load_checkpoint,
    save_checkpoint,
    save_tensors,
    to_device,
    unflatten,
)


def same(a, b):
    """Equal in value and in every type, NaN being equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(
            type(x) is type(y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


STATES = {
    "nothing": None,
    "true": True,
    "whole": -(2**70),
    "fraction": 0.1 + 0.2,
    "negative zero": -0.0,
    "infinite": [math.inf, -math.inf],
    "not a number": math.nan,
    "text": 'a "quoted" \n line, ü',
    "tensor": torch.tensor([1, 2], dtype=torch.int16),
    "empty ones": [{}, [], ()],
    "whole keys": {0: "a", "0": "b", -1: "c"},
    "pair": (1, (2.0, [3, (4,)])),
    "looks like our marks": {"tensor": "0:", "dict": [["a", 1]], "tuple": [1], "float": "nan"},
    "separators": {"a": {"b/c": torch.ones(1)}, "a/b": {"c": torch.zeros(1)}},
    "reserved name": {"__metadata__": torch.ones(2)},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_every_nesting_comes_back_as_it_was(state, tmp_path):
    tensors, content = flatten(state)
    text = json.dumps(content, allow_nan=False)
    assert same(unflatten(tensors, json.loads(text)), state)
    save_checkpoint(tmp_path, 1, {"state": state})
    assert same(load_checkpoint(tmp_path).state["state"], state)


def test_a_path_that_is_no_utf8_is_read_like_any_other(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff\xc3")
    folder.mkdir()
    save_checkpoint(folder, 1, {"state": torch.ones(3)})
    assert same(load_checkpoint(folder).state["state"], torch.ones(3))


def test_the_comparison_of_this_test_tells_types_apart():
    for a, b in [((1,), [1]), (1, 1.0), (True, 1), ({0: 1}, {"0": 1}), ({1: 0}, {True: 0})]:
        assert not same(a, b)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [1, {"b": object()}]}, "/a/1/b is a object"),
        ({"a": {1, 2}}, "/a is a set"),
        (b"raw", "the state is a bytes"),
        ({"a": {(1, 2): 3}}, r"/a has \(1, 2\)"),
        ({"a": {True: 3}}, "/a has True"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_its_place(state, message):
    with pytest.raises(ValueError, match=message):
        flatten(state)


def test_an_optimizer_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path):
    def make():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        return net, torch.optim.Adam(net.parameters())

    def train(net, optimizer, updates):
        for _ in range(updates):
            optimizer.zero_grad()
            net(torch.arange(6.0).reshape(2, 3)).square().mean().backward()
            optimizer.step()

    net, optimizer = make()
    train(net, optimizer, 3)
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
    assert isinstance(state["net"], OrderedDict)
    save_checkpoint(tmp_path, 3, state)
    train(net, optimizer, 2)

    resumed, its_optimizer = make()
    loaded = load_checkpoint(tmp_path)
    resumed.load_state_dict(loaded.state["net"])
    its_optimizer.load_state_dict(loaded.state["optimizer"])
    train(resumed, its_optimizer, 2)
    for a, b in zip(net.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_latest_few_stay(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (1, 20, 300, 4000, 123456):
        path = save_checkpoint(folder, step, {"step": step}, keep=2)
    assert path == folder / "step-000000123456.safetensors"
    assert sorted(os.listdir(folder)) == [
        "step-000000004000.safetensors",
        "step-000000123456.safetensors",
    ]
    loaded = load_checkpoint(folder)
    assert (loaded.step, loaded.state, loaded.path) == (123456, {"step": 123456}, path)
    assert loaded.notes == ()


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"), [(cut, "cannot be read"), (flip, "does not match its checksum")]
)
def test_a_damaged_checkpoint_is_skipped_and_named(tmp_path, damage, reason):
    for step in (1000, 2000, 3000):
        save_checkpoint(tmp_path, step, {"weight": torch.full((9,), float(step))})
    damage(tmp_path / "step-000000003000.safetensors")
    damage(tmp_path / "step-000000002000.safetensors")
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 1000
    assert torch.equal(loaded.state["weight"], torch.full((9,), 1000.0))
    for note, step in zip(loaded.notes, (3000, 2000), strict=True):
        assert note.startswith(f"step-00000000{step}.safetensors is damaged ({reason}")
        assert note.endswith(": continuing from step 1,000 instead.")
        assert str(tmp_path) not in note


def test_a_checkpoint_is_never_pruned_for_a_later_one_that_was_abandoned(tmp_path):
    for step in (1000, 2000, 3000):
        save_checkpoint(tmp_path, step, {"step": step})
    for step in (2000, 3000):
        cut(tmp_path / f"step-00000000{step}.safetensors")
    save_checkpoint(tmp_path, 1500, {"step": 1500}, keep=2)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.step, loaded.notes) == (1500, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000001000.safetensors",
        "step-000000001500.safetensors",
    ]


def test_only_damaged_checkpoints_are_an_error_that_names_them(tmp_path):
    save_checkpoint(tmp_path, 7, {"weight": torch.ones(3)})
    cut(tmp_path / "step-000000000007.safetensors")
    with pytest.raises(ValueError, match=r"step-000000000007.safetensors is damaged .*new run"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("folder", ["", "missing"])
def test_no_checkpoint_is_an_error(tmp_path, folder):
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        load_checkpoint(tmp_path / folder)


def test_another_programs_file_counts_as_damaged(tmp_path):
    save_checkpoint(tmp_path, 1, {"a": 1})
    save_tensors(tmp_path / "step-000000000002.safetensors", {}, {"format": "policy"})
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 1
    assert "has not the format" in loaded.notes[0]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from agents.runtime.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
save_checkpoint(folder, 10, {"weight": torch.ones(5)})
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)  # in the middle of the next one
save_checkpoint(folder, 20, {"weight": torch.zeros(5)})
"""


def test_a_process_killed_while_writing_leaves_the_checkpoint_before(tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -9
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    loaded = load_checkpoint(tmp_path)
    assert (loaded.step, loaded.notes) == (10, ())
    assert torch.equal(loaded.state["weight"], torch.ones(5))

    save_checkpoint(tmp_path, 30, loaded.state)
    assert sorted(os.listdir(tmp_path)) == [
        "step-000000000010.safetensors",
        "step-000000000030.safetensors",
    ]


def test_a_checkpoint_that_cannot_be_written_costs_none_of_the_others(tmp_path):
    save_checkpoint(tmp_path, 10, {"step": 10}, keep=1)
    before = os.listdir(tmp_path)
    with pytest.raises(ValueError, match="a set"):
        save_checkpoint(tmp_path, 20, {"weight": torch.ones(5), "set": {1}}, keep=1)
    blocker = tmp_path / "step-000000000020.safetensors"
    blocker.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match="step-000000000020"):
        save_checkpoint(tmp_path, 20, {"step": 20}, keep=1)
    blocker.rmdir()
    assert os.listdir(tmp_path) == before


def test_tensors_go_to_the_device_that_is_asked_for(tmp_path):
    state = {"a": torch.ones(2), "b": [torch.zeros(3), 1]}
    moved = to_device(state, torch.device("meta"))
    assert moved["a"].device.type == moved["b"][0].device.type == "meta"
    assert moved["b"][1] == 1
    save_checkpoint(tmp_path, 1, state)
    assert load_checkpoint(tmp_path, "meta").state["a"].device.type == "meta"
    assert load_checkpoint(tmp_path).state["a"].device.type == "cpu"
