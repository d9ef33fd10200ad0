import pytest
import torch

from examples import loops


@pytest.fixture(scope="module")
def wanted():
    return loops.plain()


def test_micro_batches_give_the_gradient_of_the_whole_batch(wanted):
    torch.testing.assert_close(loops.accumulated(parts=4), wanted)


def test_two_processes_give_the_gradient_of_the_whole_batch(wanted):
    torch.testing.assert_close(loops.distributed(), wanted)


def test_under_autocast_the_gradient_is_that_of_float32_up_to_rounding(wanted):
    found = loops.autocast()
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    # bfloat16 has 8 bits of precision.
    assert (found - wanted).norm() / wanted.norm() < 0.05


def test_an_option_is_refused_in_one_sentence(capsys):
    assert loops.main(["--fast"]) == 2
    assert capsys.readouterr().out == "loops.py takes no options.\n"
