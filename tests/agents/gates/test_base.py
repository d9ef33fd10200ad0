"""What the base class does for every gate: cleaning, dropping, combining, remembering."""

from collections.abc import Sequence

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate
from agents.gates.gramian import Gramian


class Fixed(Gate):
    """Gives weights that the test chose, whatever the gradients."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = weights

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        return gramian.norm.new_tensor(self.weights).expand_as(gramian.norm)


class Previous(Gate):
    """Compares with the previous rows' sum, to try references and memory."""

    num_references = 1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("previous", torch.empty(0))

    def references(
        self,
        rows: Float[Tensor, "*batch L P"],
        groups: Sequence[int],
        samples: Float[Tensor, "*batch K P"] | None = None,
    ) -> Float[Tensor, "*batch R P"]:
        now = rows.sum(-2, keepdim=True)
        before = self.previous if self.previous.numel() > 0 else torch.zeros_like(now)
        self.previous = now
        return before

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        return torch.full_like(gramian.norm, 2.0)


class Hungry(Fixed):
    needs_losses = True
    sample_rows = 2


class Cutting(Fixed):
    slices = 3

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        self.seen = gramian.slices
        return super().forward(gramian, losses)


def test_slices_are_formed_row_by_row_of_each_and_cleaned() -> None:
    gate, slices = Cutting(1.0, 1.0), torch.randn(3, 2, 5)
    slices[1, 1, 0] = torch.inf
    gate.judge(slices.sum(0), slices=slices, groups=(4, 1))
    assert gate.seen is not None
    # Slice after slice, of each the main row first.
    assert gate.seen.norm.shape == (2, 6)
    torch.testing.assert_close(gate.seen.norm[0, 4], slices[2, 0, :4].norm())
    assert gate.seen.norm[:, 3].tolist() == [0.0, 0.0]
    whole = torch.cosine_similarity(slices[0, 0, :4], slices[2, 1, :4], dim=0)
    torch.testing.assert_close(gate.seen.cosine[0, 0, 5], whole)


@pytest.mark.parametrize("slices", [None, torch.ones(2, 2, 5)])
def test_a_gate_without_as_many_slices_as_it_asks_for_says_so(slices: Tensor | None) -> None:
    with pytest.raises(ValueError, match="Cutting needs rows of 3 slices"):
        Cutting(1.0, 1.0).judge(torch.ones(2, 5), slices=slices)


def test_a_gate_has_nothing_of_its_own_to_log_unless_it_says_so() -> None:
    gate = Fixed(1.0, 1.0)
    assert gate.notes(gate.judge(torch.ones(2, 5)).gramian) == {}


def test_the_direction_is_the_weighted_sum_of_rows() -> None:
    rows = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 5.0]])
    # 2 * (1, 2, 0) - 3 * (0, 1, 5)
    assert Fixed(2.0, -3.0).combine(rows).tolist() == [2.0, 1.0, -15.0]


def test_an_auxiliary_row_with_one_bad_entry_is_dropped_whole() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        rows = torch.ones(3, 5)
        rows[1, 3] = bad
        judgement = Fixed(1.0, 7.0, 2.0).judge(rows, groups=(2, 3))
        assert judgement.weights.tolist() == [[1.0, 0.0, 2.0]] * 2
        assert judgement.direction.tolist() == [3.0] * 5
        assert judgement.gramian.norm[:, 1].tolist() == [0.0, 0.0]


def test_a_bad_main_row_counts_as_zero_and_keeps_its_weight() -> None:
    rows = torch.ones(2, 5)
    rows[0, 0] = float("nan")
    judgement = Fixed(3.0, 2.0).judge(rows)
    assert judgement.weights.tolist() == [[3.0, 2.0]]
    assert judgement.direction.tolist() == [2.0] * 5


def test_a_row_is_dropped_in_the_groups_where_it_vanishes() -> None:
    rows = torch.ones(2, 5)
    rows[1, :2] = 0.0
    assert Fixed(1.0, 4.0).judge(rows, groups=(2, 3)).weights.tolist() == [[1.0, 0.0], [1.0, 4.0]]


def test_an_infinite_weight_of_a_dropped_row_does_no_harm() -> None:
    rows = torch.stack([torch.ones(5), torch.zeros(5)])
    assert Fixed(1.0, float("inf")).combine(rows).tolist() == [1.0] * 5


def test_the_rows_of_the_caller_are_left_as_they_are() -> None:
    rows = torch.ones(2, 5)
    rows[0, 0] = float("nan")
    Fixed(1.0, 1.0).judge(rows)
    assert rows[0, 0].isnan()


def test_reference_rows_join_the_judgement_and_memory_advances_once() -> None:
    gate = Previous()
    rows = torch.ones(2, 5)
    first, second = gate.judge(rows), gate.judge(3 * rows)
    # Nothing to compare with at first: the reference vanishes and is dropped.
    assert first.weights.tolist() == [[2.0, 2.0, 0.0]]
    # 2 * (3 + 3) + 2 * (1 + 1)
    assert second.direction.tolist() == [16.0] * 5


@pytest.mark.parametrize("batch", [(), (4,)])
def test_memory_survives_a_strict_round_trip_into_a_fresh_gate(batch: tuple[int, ...]) -> None:
    gate, fresh = Previous(), Previous()
    gate.judge(torch.randn(*batch, 2, 5))
    fresh.load_state_dict(gate.state_dict())
    rows = torch.randn(*batch, 2, 5)
    assert torch.equal(fresh.combine(rows), gate.combine(rows))


def test_a_checkpoint_without_memory_empties_a_gate_that_has_some() -> None:
    gate = Previous()
    gate.judge(torch.randn(2, 5))
    gate.load_state_dict(Previous().state_dict())
    assert gate.previous.numel() == 0


def test_a_missing_memory_is_not_loaded_silently() -> None:
    with pytest.raises(RuntimeError, match="previous"):
        Previous().load_state_dict({})


def test_what_a_gate_needs_and_lacks_is_named() -> None:
    rows, losses = torch.ones(2, 5), torch.ones(2)
    with pytest.raises(ValueError, match="Hungry needs the values of the losses"):
        Hungry(1.0, 1.0).judge(rows)
    with pytest.raises(ValueError, match="Hungry needs 2 rows of samples"):
        Hungry(1.0, 1.0).judge(rows, losses)
    assert Hungry(1.0, 1.0).combine(rows, losses, samples=torch.ones(2, 5)).tolist() == [2.0] * 5


def test_groups_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must add up"):
        Fixed(1.0, 1.0).judge(torch.ones(2, 5), groups=(2, 2))


def test_each_auxiliary_enters_by_its_own_row_unless_a_gate_says_otherwise() -> None:
    gate = Fixed(1.0, 2.0, 3.0)
    judgement = gate.judge(torch.ones(3, 5))
    shares = gate.shares(judgement.gramian, judgement.weights)
    assert shares.tolist() == [[[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]]


def test_judging_leaves_no_graph_behind() -> None:
    rows = torch.ones(2, 5, requires_grad=True)
    assert not Fixed(1.0, 1.0).combine(rows).requires_grad


class Counting(Fixed):
    """Remembers how often it was told to advance, and what it was told last."""

    def __init__(self, *weights: float) -> None:
        super().__init__(*weights)
        self.seen: list[Tensor | None] = []

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        self.seen.append(losses)


def test_a_gate_advances_once_per_judgement_and_sees_the_losses() -> None:
    gate, losses = Counting(1.0, 1.0), torch.ones(2)
    gate.judge(torch.ones(2, 5), losses)
    gate.judge(torch.ones(2, 5))
    assert gate.seen == [losses, None]


def test_a_main_loss_alone_is_neither_weighed_nor_learnt_from() -> None:
    gate, rows = Counting(7.0), torch.randn(4, 1, 5)
    judgement = gate.judge(rows)
    assert torch.equal(judgement.direction, rows[:, 0])
    assert judgement.weights.tolist() == [[[1.0]]] * 4
    assert gate.seen == []


def test_samples_may_be_missing_between_the_judgements_that_ask_for_them() -> None:
    class Patient(Fixed):
        sample_rows = 2
        sample_every = 3

    assert Patient(1.0, 1.0).combine(torch.ones(2, 5)).tolist() == [2.0] * 5


def test_rows_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows must be \[\.\.\., losses, parameters\], not of"):
        Fixed(1.0).judge(torch.zeros(0, 3))


def test_rows_over_nothing_are_judged() -> None:
    assert Fixed(1.0, 1.0).judge(torch.zeros(2, 0)).direction.shape == (0,)
