from dataclasses import replace

import pytest
import torch

from benchmarks.stepping import ours


@pytest.fixture
def small_pool(monkeypatch):
    """Few worlds, and a note of what is stepped."""
    stepped = []
    kept = ours.player

    def watched(worlds, num_envs, options):
        stepped.append(worlds)
        return kept(worlds, num_envs, options)

    monkeypatch.setattr(ours, "OPTIONS", replace(ours.OPTIONS, pool=5))
    monkeypatch.setattr(ours, "player", watched)
    return stepped


def test_both_windows_look_at_the_same_worlds(small_pool):
    threads = torch.get_num_threads()
    try:
        forms = ours.program(num_envs=3).forms
    finally:
        torch.set_num_threads(threads)
    assert {name: form.view for name, form in forms.items()} == {
        "5x5": "5x5 uint8",
        "11x11": "11x11 uint8",
    }
    near, far = small_pool
    assert torch.equal(near.kind, far.kind)
    assert (len(near), near.window.shape[-1], far.window.shape[-1]) == (5, 5, 11)
    # 8 steps of 3 environments.
    assert [form.play() for form in forms.values()] == [24, 24]
