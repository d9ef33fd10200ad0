"""What holds for every registered gate; a new one is covered by being registered."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates import Gate, Gates, diagnose, make

NAMES = list(vars(Gates()))
"""Names of all gates, at their default options."""

VARIANTS = [*((name, {}) for name in NAMES), ("sum", {"measure": True})] + [
    (name, {"decay": 0.9}) for name in ("projection", "orthogonal")
]
MAIN_DESCENT = ["cosine", "cosine_unweighted", "projection"]

every_gate = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=lambda value: value if isinstance(value, str) else str(value)
)


def judged(gate: Gate, rows: Tensor) -> Tensor:
    return gate.combine(rows, rows.new_ones(rows.shape[:-1]))


def random_rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


CASES = {
    "aligned": torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]),
    "opposed": torch.tensor([[1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]]),
    "orthogonal": torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]),
    "vanished auxiliary": torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]),
    "vanished main": torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]),
    "all vanished": torch.zeros(3, 3),
    "alone": torch.tensor([[1.0, 2.0, 3.0]]),
    "tiny": torch.tensor([[1e-8, 2e-8, 0.0], [-1e-8, 1e-8, 3e-8]]),
    "huge": torch.tensor([[1e6, 2e6, 0.0], [-1e6, 1e6, 3e6]]),
    "mixed": torch.tensor([[1e6, 2e6, 0.0], [-1e-8, 1e-8, 3e-8], [-1.0, 0.0, 1.0]]),
    "not a number": torch.tensor([[1.0, 2.0, 3.0], [1.0, float("nan"), 0.0]]),
    "infinite main": torch.tensor([[1.0, float("inf"), 3.0], [1.0, 2.0, 0.0]]),
    "all infinite": torch.full((2, 3), -float("inf")),
}


@every_gate
@pytest.mark.parametrize("case", CASES)
def test_weights_and_direction_are_finite(name: str, options: dict[str, float], case: str) -> None:
    gate, rows = make(name, **options), CASES[case]
    for _ in range(2):
        judgement = gate.judge(rows, torch.ones(len(rows)))
        assert judgement.direction.isfinite().all()
        assert judgement.weights.isfinite().all()
        assert judgement.weights.shape == (1, len(rows) + gate.num_references)
        for value in vars(diagnose(gate, judgement)).values():
            assert value.isfinite().all()
            assert value.shape == (len(rows) - 1,)


@every_gate
def test_a_vanished_or_bad_auxiliary_is_as_good_as_absent(
    name: str, options: dict[str, float]
) -> None:
    rows = random_rows(0, 3, 7)
    for nothing in (torch.zeros(7), torch.full((7,), torch.nan), torch.full((7,), torch.inf)):
        spoilt = torch.cat([rows, nothing[None].double()])
        judgement = make(name, **options).judge(spoilt, torch.ones(4))
        assert judgement.weights[0, 3] == 0.0
        assert_close(judgement.direction, judged(make(name, **options), rows))


@every_gate
def test_the_main_loss_alone_is_left_as_it_is(name: str, options: dict[str, float]) -> None:
    rows = random_rows(0, 1, 7)
    assert torch.equal(judged(make(name, **options), rows), rows[0])


@every_gate
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 12))
def test_scaling_all_rows_scales_the_direction(
    name: str, options: dict[str, float], seed: int, exponent: int
) -> None:
    rows, scale = random_rows(seed, 3, 7), 10.0**exponent
    direction = judged(make(name, **options), rows)
    assert_close(judged(make(name, **options), scale * rows), scale * direction, atol=0, rtol=1e-6)


@every_gate
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), exponent=st.integers(-6, 6))
def test_scaling_one_auxiliary_scales_what_it_adds(
    name: str, options: dict[str, float], seed: int, exponent: int
) -> None:
    rows, scale = random_rows(seed, 2, 7), 10.0**exponent
    added = judged(make(name, **options), rows) - rows[0]
    scaled = torch.stack([rows[0], scale * rows[1]])
    changed = judged(make(name, **options), scaled) - rows[0]
    assert_close(changed, scale * added, atol=1e-12, rtol=1e-6)


@every_gate
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), exponent=st.integers(-6, 6))
def test_scaling_the_main_row_changes_no_share_of_an_auxiliary(
    name: str, options: dict[str, float], seed: int, exponent: int
) -> None:
    rows, scale = random_rows(seed, 2, 7), 10.0**exponent
    added = judged(make(name, **options), rows) - rows[0]
    scaled = torch.stack([scale * rows[0], rows[1]])
    changed = judged(make(name, **options), scaled) - scaled[0]
    assert_close(changed, added, atol=1e-6 * max(1.0, scale * 1e-3), rtol=1e-6)


@pytest.mark.parametrize("name", MAIN_DESCENT)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_auxiliaries=st.integers(1, 4))
def test_the_direction_descends_the_main_loss(name: str, seed: int, num_auxiliaries: int) -> None:
    rows = random_rows(seed, 1 + num_auxiliaries, 5)
    main = rows[0]
    assert main @ judged(make(name), rows) >= (main @ main) * (1 - 1e-9)


@every_gate
def test_permuting_auxiliaries_permutes_their_weights(name: str, options: dict[str, float]) -> None:
    rows, order = random_rows(0, 4, 7), [0, 3, 1, 2]
    plain, permuted = make(name, **options), make(name, **options)
    one, other = plain.judge(rows, torch.ones(4)), permuted.judge(rows[order], torch.ones(4))
    assert_close(other.weights[..., :4], one.weights[..., order])
    assert_close(other.direction, one.direction)


@every_gate
def test_shares_add_up_to_the_direction(name: str, options: dict[str, float]) -> None:
    gate = make(name, **options)
    # Two judgements, so that a memory differs from the present gradient.
    gate.judge(random_rows(1, 4, 7), torch.ones(4))
    judgement = gate.judge(random_rows(2, 4, 7), torch.ones(4), groups=(5, 2))
    shares = gate.shares(judgement.gramian, judgement.weights)
    assert shares.shape == (2, 3, 4 + gate.num_references)
    main = torch.eye(4 + gate.num_references, dtype=torch.float64)[0]
    assert_close(main + shares.sum(-2), judgement.weights)


@every_gate
def test_a_leading_batch_is_judged_entry_by_entry(name: str, options: dict[str, float]) -> None:
    batched, single = make(name, **options), [make(name, **options) for _ in range(5)]
    for seed in range(2):
        rows = random_rows(seed, 5, 3, 7)
        rows[2, 0] = 0.0
        rows[3, 1] = torch.nan
        judgement = batched.judge(rows, torch.ones(5, 3), groups=(4, 3))
        alone = [
            gate.judge(row, torch.ones(3), groups=(4, 3))
            for gate, row in zip(single, rows, strict=True)
        ]
        assert_close(judgement.direction, torch.stack([each.direction for each in alone]))
        assert_close(judgement.weights, torch.stack([each.weights for each in alone]))


@every_gate
def test_groups_are_judged_as_if_they_were_alone(name: str, options: dict[str, float]) -> None:
    rows, groups = random_rows(0, 3, 9), (4, 3, 2)
    together = make(name, **options).combine(rows, torch.ones(3), groups)
    apart = [judged(make(name, **options), block) for block in rows.split(groups, dim=-1)]
    assert_close(together, torch.cat(apart))


@every_gate
def test_memory_survives_a_round_trip(name: str, options: dict[str, float]) -> None:
    gate, fresh = make(name, **options), make(name, **options)
    judged(gate, random_rows(0, 3, 7).float())
    fresh.load_state_dict(gate.state_dict())
    rows = random_rows(1, 3, 7).float()
    assert torch.equal(judged(fresh, rows), judged(gate, rows))


@every_gate
def test_narrow_rows_are_judged_as_wide_ones(name: str, options: dict[str, float]) -> None:
    rows = random_rows(0, 3, 4096).bfloat16()
    narrow, wide = judged(make(name, **options), rows), judged(make(name, **options), rows.float())
    assert narrow.dtype == torch.float32
    assert_close(narrow, wide)


@every_gate
def test_autocast_changes_nothing(name: str, options: dict[str, float]) -> None:
    rows = random_rows(0, 3, 65).float()
    plain = judged(make(name, **options), rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(judged(make(name, **options), rows), plain)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_declared_scale_free_only_if_they_are(name: str) -> None:
    gate, rows = make(name), random_rows(0, 3, 7)
    weights = gate.judge(rows, torch.ones(3)).weights
    scale = torch.tensor([[3.0], [50.0], [0.2]])
    same = torch.allclose(gate.judge(scale * rows, torch.ones(3)).weights, weights)
    assert not gate.scale_free or same


COMPILE = """
import sys
import torch
from agents.gates import make

for name, options in eval(sys.argv[1]):
    for batch in ((), (5,)):
        torch.compiler.reset()
        gate, eager = make(name, **options), make(name, **options)
        for either in (gate, eager):
            either.judge(torch.ones(*batch, 3, 7), torch.ones(*batch, 3))
        compiled = torch.compile(gate.judge, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            inputs = (torch.randn(*batch, 3, 7), torch.ones(*batch, 3), (4, 3))
            one, other = compiled(*inputs), eager.judge(*inputs)
            torch.testing.assert_close(one.direction, other.direction)
            torch.testing.assert_close(one.weights, other.weights)
"""
"""Runs in a process of its own: the compiler does not follow the shape checks of this one."""


@pytest.mark.slow
def test_they_compile_to_one_graph_each_that_agrees() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", COMPILE, repr(VARIANTS)]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]


def test_hyphens_and_underscores_name_the_same_gate() -> None:
    assert type(make("cosine-unweighted")) is type(make("cosine_unweighted"))


def test_an_unknown_gate_is_refused_with_the_nearest_names_first() -> None:
    with pytest.raises(ValueError, match=r"gate must be one of projection, .*, not projektion"):
        make("projektion")


def test_an_unknown_option_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="gate projection has no option decai; it has decay"):
        make("projection", decai=0.9)
    with pytest.raises(ValueError, match="gate cosine has no option decay; it has none"):
        make("cosine", decay=0.9)


def test_a_bad_value_is_refused() -> None:
    with pytest.raises(ValueError, match="decay must be"):
        make("projection", decay=1.5)
