import numpy as np

from benchmarks import fidelity


def test_signs_and_sizes_are_compared_head_by_head():
    # Three of four signs agree; the second column is the first times 2, but for the last.
    pairs = np.array([[0.1, 0.2], [-0.2, -0.4], [0.3, 0.6], [0.1, -0.1]])
    whole, *_ = fidelity.lines("Catch", {"inverse": pairs})
    env, head, part, updates, same, correlation, *means = whole.split(",")
    assert (env, head, part, updates, same) == ("Catch", "inverse", "whole run", "4", "0.750")
    assert float(correlation) == round(float(np.corrcoef(pairs.T)[0, 1]), 3)
    assert means == ["0.075", "0.075"]


def test_both_learners_see_the_same_weights_and_trajectories(monkeypatch):
    monkeypatch.setitem(fidelity.RUNS, "Catch", ("inverse",))
    found = fidelity.cosines("Catch", fidelity.Options(envs=("Catch",), steps=1_500))
    assert list(found) == ["inverse"]
    for pairs in found.values():
        assert len(pairs) >= 2
        assert np.isfinite(pairs).all()
        assert not np.allclose(pairs[:, 0], pairs[:, 1])
