"""Orders of visits: each row sees each other row once, and random means uniform."""

from collections import Counter

import pytest
import torch

from agents.gates.algebra import Order, Orders, check_order

CPU = torch.device("cpu")


def drawn(orders: Orders, num_rows: int, times: int) -> list[list[list[int]]]:
    found = []
    for _ in range(times):
        found.append(orders(num_rows, CPU).tolist())
        orders.advance()
    return found


@pytest.mark.parametrize("order", ["random", "fixed"])
@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_each_row_visits_every_other_row_once(order: Order, num_rows: int) -> None:
    for visits in drawn(Orders(order, 0), num_rows, 3):
        for row, others in enumerate(visits):
            assert sorted([row, *others]) == list(range(num_rows))


def test_a_fixed_order_ascends_for_ever() -> None:
    assert drawn(Orders("fixed", 0), 3, 2) == [[[1, 2], [0, 2], [0, 1]]] * 2


def test_an_order_stays_until_it_is_advanced() -> None:
    orders = Orders("random", 0)
    assert torch.equal(orders(5, CPU), orders(5, CPU))


def test_random_orders_are_uniform_and_independent_between_rows() -> None:
    # 8 equally likely triples of orders in 800 draws: 100 each, standard deviation 9.4.
    counts = Counter(str(visits) for visits in drawn(Orders("random", 3), 3, 800))
    assert len(counts) == 8
    assert all(abs(count - 100) < 4 * 9.4 for count in counts.values())


def test_a_state_dict_goes_on_where_it_was() -> None:
    one, other = Orders("random", 1), Orders("random", 1)
    drawn(one, 4, 7)
    other.load_state_dict(one.state_dict())
    assert drawn(other, 4, 5) == drawn(one, 4, 5)


def test_another_seed_gives_other_orders() -> None:
    seeds = (0, 1, 2**40, 2**40 + 1)
    assert len({str(drawn(Orders("random", seed), 4, 8)) for seed in seeds}) == 4


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order must be random or fixed, not sorted"):
        check_order("sorted")
