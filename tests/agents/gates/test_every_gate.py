"""What holds for every registered gate; a new one is covered by being registered."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agents.gates import Gate, Gates, diagnose, make
from experiments.testing import judge
from tests.pages import page

Options = dict[str, Any]

NAMES = list(vars(Gates()))
"""Names of all gates, at their default options."""

VARIANTS = [
    *((name, {}) for name in NAMES),
    ("sum", {"measure": True}),
    ("projection", {"decay": 0.9}),
    ("orthogonal", {"decay": 0.9}),
    ("bounded", {"decay": 0.0, "kappa": 2.0}),
    ("pcgrad", {"order": "fixed"}),
    ("gradnorm", {"alpha": 0.0}),
    ("rotograd", {"homogenise": False}),
    ("ol_aux", {"interval": 1, "log": "all"}),
    ("attittud", {"eta": (1.0, 0.5, -1.0), "rank": 2, "fresh": True}),
    ("significant", {"slices": 3, "unknown": 0.5}),
]
MAIN_DESCENT = ["cosine", "cosine_unweighted", "projection"]
NO_CONFLICT = ["mgda", "upgrad", "nash", "auxinash"]
"""No loss rises, to first order."""
ORDERED = ["pcgrad", "gradvac"]
"""Visit the rows in some order: with more than two, another order gives other weights."""
SIZELESS = ["nash", "auxinash"]
"""Do not care how long a gradient is."""
ONE_SIDED = [
    *("sum", "cosine", "cosine_unweighted", "significant"),
    *("projection", "orthogonal", "attittud", "bounded"),
]
"""Add to the main gradient what they make of each auxiliary."""
RELATIVE = ["bounded"]
"""What they make of an auxiliary depends on its length in comparison to the main gradient's."""

every_gate = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=lambda value: value if isinstance(value, str) else str(value)
)


def judged(gate: Gate, rows: Tensor) -> Tensor:
    return judge(gate, rows).direction


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
def test_weights_and_direction_are_finite(name: str, options: Options, case: str) -> None:
    gate, rows = make(name, **options), CASES[case]
    for _ in range(2):
        judgement = judge(gate, rows)
        assert judgement.direction.isfinite().all()
        assert judgement.weights.isfinite().all()
        assert judgement.weights.shape == (1, len(rows) + gate.num_references)
        for value in vars(diagnose(gate, judgement)).values():
            assert value.isfinite().all()
            assert value.shape == (len(rows) - 1,)


@every_gate
def test_lengths_whose_ratio_no_number_can_tell_are_judged(name: str, options: Options) -> None:
    # 100 / 1e-38 is above the largest float32.
    for main, auxiliary in ((1e-38, 100.0), (100.0, 1e-38)):
        rows = torch.tensor([[main, 0.0, 0.0], [-auxiliary, auxiliary / 2, 0.0]])
        judgement = judge(make(name, **options), rows)
        assert judgement.weights.isfinite().all()
        assert judgement.direction.isfinite().all()


@every_gate
@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000),
    kinds=st.lists(
        st.tuples(st.sampled_from([-1, 0, 1, 2]), st.integers(-8, 6)), min_size=2, max_size=5
    ),
)
def test_dependent_rows_of_any_length_give_something_finite(
    name: str, options: Options, seed: int, kinds: list[tuple[int, int]]
) -> None:
    # Rows in three dimensions: the first one, turned round, vanished, as it is, or one of their
    # own; of lengths from 1e-8 to 1e6.
    drawn = random_rows(seed, len(kinds), 3).float()
    rows = torch.stack(
        [
            (own if kind == 2 else kind * drawn[0]) * 10.0**exponent
            for own, (kind, exponent) in zip(drawn, kinds, strict=True)
        ]
    )
    gate = make(name, **options)
    for _ in range(2):
        judgement = judge(gate, rows)
        assert judgement.direction.isfinite().all()
        assert judgement.weights.isfinite().all()


@every_gate
def test_a_vanished_or_bad_auxiliary_is_as_good_as_absent(name: str, options: Options) -> None:
    rows = random_rows(0, 3, 7)
    for nothing in (torch.zeros(7), torch.full((7,), torch.nan), torch.full((7,), torch.inf)):
        spoilt = torch.cat([rows, nothing[None].double()])
        judgement = judge(make(name, **options), spoilt)
        assert judgement.weights[0, 3] == 0.0
        assert_close(judgement.direction, judged(make(name, **options), rows))


@every_gate
def test_the_main_loss_alone_is_left_as_it_is(name: str, options: Options) -> None:
    rows = random_rows(0, 1, 7)
    assert torch.equal(judged(make(name, **options), rows), rows[0])


@every_gate
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 12))
def test_scaling_all_rows_scales_the_direction(
    name: str, options: Options, seed: int, exponent: int
) -> None:
    rows, scale = random_rows(seed, 3, 7), 10.0**exponent
    direction = judged(make(name, **options), rows)
    expected = direction if name in SIZELESS else scale * direction
    assert_close(judged(make(name, **options), scale * rows), expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize("name", SIZELESS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 12), row=st.integers(0, 2))
def test_scaling_any_row_changes_nothing_where_lengths_do_not_count(
    name: str, seed: int, exponent: int, row: int
) -> None:
    rows = random_rows(seed, 3, 7)
    scaled = rows.clone()
    scaled[row] *= 10.0**exponent
    assert_close(judged(make(name), scaled), judged(make(name), rows), atol=0, rtol=1e-6)


one_sided = pytest.mark.parametrize(
    ("name", "options"),
    [variant for variant in VARIANTS if variant[0] in ONE_SIDED and variant[0] not in RELATIVE],
    ids=str,
)


@one_sided
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), exponent=st.integers(-6, 6))
def test_scaling_one_auxiliary_scales_what_it_adds(
    name: str, options: Options, seed: int, exponent: int
) -> None:
    rows, scale = random_rows(seed, 2, 7), 10.0**exponent
    added = judged(make(name, **options), rows) - rows[0]
    scaled = torch.stack([rows[0], scale * rows[1]])
    changed = judged(make(name, **options), scaled) - rows[0]
    assert_close(changed, scale * added, atol=1e-12, rtol=1e-6)


@one_sided
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), exponent=st.integers(-6, 6))
def test_scaling_the_main_row_changes_no_share_of_an_auxiliary(
    name: str, options: Options, seed: int, exponent: int
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


@pytest.mark.parametrize("name", NO_CONFLICT)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), num_auxiliaries=st.integers(1, 4), exponent=st.integers(-6, 6))
def test_the_direction_raises_no_loss(
    name: str, seed: int, num_auxiliaries: int, exponent: int
) -> None:
    rows = random_rows(seed, 1 + num_auxiliaries, 6)
    rows[-1] *= 10.0**exponent
    direction = judged(make(name), rows)
    gains = rows @ direction / rows.norm(dim=-1) / direction.norm()
    assert (gains >= -1e-9).all()


@every_gate
def test_permuting_auxiliaries_permutes_their_weights(name: str, options: Options) -> None:
    num_losses = 2 if name in ORDERED else 4
    rows, order = random_rows(0, num_losses, 7), [0, 1] if name in ORDERED else [0, 3, 1, 2]
    one = judge(make(name, **options), rows)
    other = judge(make(name, **options), rows[order])
    assert_close(other.weights[..., :num_losses], one.weights[..., order])
    assert_close(other.direction, one.direction)


@every_gate
def test_shares_add_up_to_the_direction(name: str, options: Options) -> None:
    gate = make(name, **options)
    # Two judgements, so that a memory differs from the present gradient.
    judge(gate, random_rows(1, 4, 7), (5, 2))
    judgement = judge(gate, random_rows(2, 4, 7), (5, 2))
    shares = gate.shares(judgement.gramian, judgement.weights)
    assert shares.shape == (2, 3, 4 + gate.num_references)
    main = torch.zeros_like(judgement.weights)
    main[:, 0] = 1.0 if name in ONE_SIDED else judgement.weights[:, 0]
    assert_close(main + shares.sum(-2), judgement.weights)


@every_gate
def test_a_leading_batch_is_judged_entry_by_entry(name: str, options: Options) -> None:
    batched, single = make(name, **options), [make(name, **options) for _ in range(5)]
    for seed in range(3):
        rows = random_rows(seed, 5, 3, 7)
        rows[2, 0] = 0.0
        rows[3, 1] = torch.nan
        judgement = judge(batched, rows, (4, 3))
        alone = [judge(gate, row, (4, 3)) for gate, row in zip(single, rows, strict=True)]
        assert_close(judgement.direction, torch.stack([each.direction for each in alone]))
        assert_close(judgement.weights, torch.stack([each.weights for each in alone]))


@every_gate
def test_groups_are_judged_as_if_they_were_alone(name: str, options: Options) -> None:
    groups, together = (4, 3, 2), make(name, **options)
    single = [make(name, **options) for _ in groups]
    samples = random_rows(99, together.sample_rows, 9)
    for seed in range(2):
        rows = random_rows(seed, 3, 9)
        apart = [
            judge(gate, block, samples=sample).direction
            for gate, block, sample in zip(
                single, rows.split(groups, dim=-1), samples.split(groups, dim=-1), strict=True
            )
        ]
        assert_close(judge(together, rows, groups, samples).direction, torch.cat(apart))


@every_gate
def test_memory_survives_a_round_trip(name: str, options: Options) -> None:
    gate, fresh = make(name, **options), make(name, **options)
    for seed in range(2):
        judge(gate, random_rows(seed, 3, 7).float(), (4, 3))
    fresh.load_state_dict(gate.state_dict())
    for seed in range(2, 4):
        rows = random_rows(seed, 3, 7).float()
        assert torch.equal(
            judge(fresh, rows, (4, 3)).direction, judge(gate, rows, (4, 3)).direction
        )


@every_gate
def test_narrow_rows_are_judged_as_wide_ones(name: str, options: Options) -> None:
    rows = random_rows(0, 3, 4096).bfloat16()
    samples = random_rows(99, make(name, **options).sample_rows, 4096).bfloat16()
    narrow = judge(make(name, **options), rows, samples=samples).direction
    wide = judge(make(name, **options), rows.float(), samples=samples).direction
    assert narrow.dtype == torch.float32
    assert_close(narrow, wide)


@every_gate
def test_autocast_changes_nothing(name: str, options: Options) -> None:
    rows = random_rows(0, 3, 65).float()
    plain = judged(make(name, **options), rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(judged(make(name, **options), rows), plain)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_declared_scale_free_only_if_they_are(name: str) -> None:
    gate, rows = make(name), random_rows(0, 3, 7)
    weights = judge(gate, rows).weights
    scale = torch.tensor([[3.0], [50.0], [0.2]])
    same = torch.allclose(judge(gate, scale * rows).weights, weights)
    assert not gate.scale_free or same


COMPILE = """
import sys
import torch
from agents.gates import make

for name, options in eval(sys.argv[1]):
    for batch in ((), (5,)):
        torch.compiler.reset()
        gate, eager = make(name, **options), make(name, **options)
        draw = lambda: (
            torch.randn(*batch, 3, 7), torch.ones(*batch, 3), (4, 3),
            torch.randn(*batch, gate.sample_rows, 7), torch.randn(*batch, gate.slices, 3, 7),
        )
        inputs = draw()
        for either in (gate, eager):
            either.judge(*inputs)
        compiled = torch.compile(gate.judge, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            inputs = draw()
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


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_page_that_names_its_options(name: str) -> None:
    text = page("gates", name, "cosine")
    assert text.startswith(f"# {name}\n")
    for option in fields(getattr(Gates(), name)):
        assert f"`{option.name}`" in text, f"docs/gates/{name}.md does not explain {option.name}"


def test_a_missing_page_is_reported_with_the_page_to_copy() -> None:
    with pytest.raises(AssertionError, match=r"gates/new.md is missing: copy docs/gates/cosine.md"):
        page("gates", "new", "cosine")


@every_gate
def test_it_says_beforehand_how_many_losses_it_can_judge(name: str, options: Options) -> None:
    gate = make(name, **options)
    gate.check(8)
    if name in ["mgda", "upgrad", "cagrad"]:
        with pytest.raises(ValueError, match="at most 8 losses, not 9"):
            gate.check(9)
    else:
        gate.check(9)
