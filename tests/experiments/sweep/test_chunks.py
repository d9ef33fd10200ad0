from dataclasses import fields, replace

import pytest
import torch

from experiments.sweep.arms import SweepArm, Teaching, arms, pairs
from experiments.sweep.chunks import compute, num_chunks, rows_per_chunk
from experiments.sweep.folder import Chunk
from gridworld import evaluate

CPU = torch.device("cpu")


def run(config, number=0):
    told = []
    return compute(config, number, CPU, told.append), told


def test_the_rows_fall_into_chunks(tiny):
    # 3 worlds x 2 seeds = 6 rows of 9 arms; 36 students are 4 rows.
    assert rows_per_chunk(tiny) == 4
    assert num_chunks(tiny) == 2
    first, _ = run(tiny)
    last, _ = run(tiny, 1)
    assert first.expected_return.shape == (3, 9, 4)
    assert last.expected_return.shape == (3, 9, 2)
    # Too small a chunk still holds one row.
    assert rows_per_chunk(replace(tiny, chunk=1)) == 1


def test_the_seeds_of_a_world_lie_side_by_side(tiny):
    chunk, _ = run(tiny)
    assert chunk.optimum[0] == chunk.optimum[1]
    assert chunk.optimum[1] != chunk.optimum[2]
    assert not torch.equal(chunk.expected_return[-1, :, 0], chunk.expected_return[-1, :, 1])


def test_everyone_begins_with_the_random_policy_in_the_modified_world(tiny):
    chunk, _ = run(tiny)
    _, after = pairs(tiny, CPU)
    uniform = torch.full((3, after.config.cells, 4), 0.25)
    wanted = evaluate(after, uniform, 0.99).expected_return[[0, 0, 1, 1]]
    torch.testing.assert_close(chunk.random, wanted)
    torch.testing.assert_close(chunk.expected_return[0], wanted.expand(9, -1))


def test_all_updates_of_all_students_are_told(tiny):
    _, told = run(tiny)
    assert sum(told) == 5 * 36


def test_the_same_chunk_is_the_same_bit_for_bit(tiny):
    first, second = run(tiny)[0], run(tiny)[0]
    for field in fields(Chunk):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name))


def test_arms_are_paired_so_that_what_else_is_swept_changes_none(tiny):
    few = replace(tiny, gates=("cosine",), temperatures=(1.0,), chunk=4 * 3)
    assert rows_per_chunk(few) == rows_per_chunk(tiny)
    some, everything = run(few)[0], run(tiny)[0]
    shared = [arms(tiny).index(arm) for arm in arms(few)]
    torch.testing.assert_close(everything.expected_return[:, shared], some.expected_return)


def test_a_perfect_teacher_alone_is_worth_the_optimum(tiny):
    chunk, _ = run(tiny)
    # cross 0, cross 1, same 0, same 1.
    torch.testing.assert_close(chunk.teacher[2], chunk.optimum)
    assert (chunk.teacher <= chunk.optimum + 1e-9).all()


def test_cosines_and_weights_are_measured_where_there_is_a_teacher(tiny):
    chunk, _ = run(tiny)
    plain = arms(tiny).index(SweepArm("sum", Teaching("cross", 0.0)))
    assert (chunk.cosine[:, 0] == 0).all()
    assert (chunk.weight[:, 0] == 0).all()
    assert (chunk.cosine[:, plain] != 0).any()
    assert (chunk.weight[:, plain] == 1).all()


def test_aliased_cells_are_those_that_look_like_another_one(tiny):
    chunk, _ = run(tiny)
    _, after = pairs(tiny, CPU)
    for row, world in enumerate((0, 0, 1, 1)):
        uniform = torch.full((1, after.config.cells, 4), 0.25)
        solved = evaluate(after, uniform, 0.99, torch.tensor([world]))
        live = (solved.visitation[0] > 0).nonzero().squeeze(1).tolist()
        looks = [after.window[world, cell].flatten().tolist() for cell in live]
        assert chunk.cells[row] == len(live)
        assert chunk.aliased[row] == sum(looks.count(look) > 1 for look in looks)


def test_exact_gradients_need_no_luck(tiny):
    config = replace(tiny, gradients="exact", learning_rate=0.1)
    chunk, _ = run(config)
    # Two seeds of one world, the same to the last digit but one.
    returns = chunk.expected_return
    torch.testing.assert_close(returns[..., 0], returns[..., 1])
    assert (returns[-1, 0] > returns[0, 0]).all()


@pytest.mark.parametrize("gate", ["pcgrad", "nash", "projection(decay=0.9)"])
def test_any_gate_that_asks_for_gradients_alone_can_be_swept(tiny, gate):
    chunk, _ = run(replace(tiny, gates=(gate,), seeds=1))
    assert chunk.expected_return.isfinite().all()
