"""OL-AUX against the sum in its paper, over several judgements."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agents.gates.methods.ol_aux import Logarithm, OLAux, OLAuxConfig, check_log


def sequence(length: int = 13) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(length, 3, 6, generator=generator, dtype=torch.float64)
    rows[:, 1] += rows[:, 0]  # helps
    rows[:, 2] -= rows[:, 0]  # hurts
    return rows, torch.rand(length, 3, generator=generator, dtype=torch.float64)


def ground_truth(rows: Tensor, losses: Tensor, log: Logarithm) -> list[Tensor]:
    """Is slow and close to the paper, with N = 5, learning rate 0.01 and offset 0.02."""
    if log != "none":
        # The gradient of log(L + 0.02).
        divisor = losses + 0.02
        divisor[:, 0] = divisor[:, 0] if log == "all" else 1.0
        rows = rows / divisor[..., None]
    weight, total, directions = [1.0, 1.0], [0.0, 0.0], []
    for step, (main, *auxiliaries) in enumerate(rows, start=1):
        directions.append(main + sum(w * each for w, each in zip(weight, auxiliaries, strict=True)))
        for k, auxiliary in enumerate(auxiliaries):
            total[k] += float(main @ auxiliary)
            if step % 5 == 0:
                weight[k] = max(0.0, weight[k] + 0.01 * total[k])
                total[k] = 0.0
    return directions


@pytest.mark.parametrize("log", ["none", "auxiliaries", "all"])
def test_it_follows_the_papers_rule(log: Logarithm) -> None:
    rows, losses = sequence()
    gate = OLAux(learning_rate=0.01, log=log)
    for step, expected in enumerate(ground_truth(rows, losses, log)):
        found = gate.combine(rows[step], losses[step])
        assert_close(found, expected, atol=1e-10, rtol=1e-10)
    # What helps has gained weight, what hurts has lost it; the main loss keeps its own.
    main, helps, hurts = gate.weight[0].tolist()
    assert main == 1.0
    assert helps > 1.0 > hurts


def test_a_weight_stops_at_zero_and_may_rise_again() -> None:
    gate = OLAux(interval=1, learning_rate=1.0)
    against, along = torch.tensor([[1.0, 0.0], [-3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.0]])
    gate.judge(against)
    assert gate.weight.tolist() == [[1.0, 0.0]]
    gate.judge(along)
    assert gate.weight.tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_a_loss_without_a_logarithm_counts_as_it_is(bad: float) -> None:
    weights = OLAux(log="all").judge(torch.eye(2), torch.tensor([bad, 0.48])).weights
    assert_close(weights, torch.tensor([[1.0, 2.0]]))


def test_an_inner_product_out_of_range_counts_as_nothing() -> None:
    gate = OLAux(interval=1)
    gate.judge(torch.full((2, 3), 1e30))
    assert gate.weight.tolist() == [[1.0, 1.0]]


def test_losses_are_asked_for_only_with_logarithms() -> None:
    OLAux().judge(torch.eye(2))
    with pytest.raises(ValueError, match="OLAux needs the values of the losses"):
        OLAux(log="auxiliaries").judge(torch.eye(2))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="interval must be at least 1, not 0"):
        OLAuxConfig(interval=0)
    with pytest.raises(ValueError, match="learning_rate must be at least 0 and finite, not nan"):
        OLAuxConfig(learning_rate=float("nan"))
    with pytest.raises(ValueError, match="log must be one of none, auxiliaries, all, not yes"):
        check_log("yes")
    with pytest.raises(ValueError, match=r"offset must be above 0 and finite, not 0\.0"):
        OLAuxConfig(offset=0.0)
